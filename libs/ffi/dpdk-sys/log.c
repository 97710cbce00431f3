/* DPDK's log as a stdio stream whose writes end in a function of ours. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/types.h>

#include <rte_eal.h>
#include <rte_log.h>

#include "log.h"

static fc_log_sink sink;

static ssize_t write_log(void *cookie, const char *bytes, size_t length)
{
	(void)cookie;
	/* rte_log writes and flushes on the caller's thread, for which this is kept. */
	sink((uint32_t)rte_log_cur_msg_loglevel(), bytes, length);
	return (ssize_t)length;
}

static ssize_t write_stderr(void *cookie, const char *bytes, size_t length)
{
	(void)cookie;
	sink(FC_LOG_STDERR, bytes, length);
	return (ssize_t)length;
}

int fc_log_to(fc_log_sink to)
{
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = write_log });

	if (stream == NULL)
		return -1;
	/* Each line at once: in a buffer those of two threads could mix. */
	setvbuf(stream, NULL, _IONBF, 0);
	sink = to;
	/* Before rte_eal_init, which otherwise writes to standard error and to syslog. */
	return rte_openlog_stream(stream);
}

int fc_eal_init(int argc, char **argv)
{
	FILE *out = stdout, *err = stderr;
	FILE *nowhere = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = NULL });
	FILE *errors = sink == NULL ? NULL : fopencookie(NULL, "w", (cookie_io_functions_t){ .write = write_stderr });
	int returned;

	/* In glibc these are variables that may be set. */
	if (nowhere != NULL)
		stdout = nowhere;
	if (errors != NULL) {
		setvbuf(errors, NULL, _IOLBF, BUFSIZ);
		stderr = errors;
	}
	returned = rte_eal_init(argc, argv);
	stdout = out;
	stderr = err;
	if (nowhere != NULL)
		fclose(nowhere);
	if (errors != NULL)
		fclose(errors);
	return returned;
}
