"""What the tests in a virtual machine stand on: the machine, its NICs, and the hosts at the other end of them.

machine.py boots QEMU, guest.py runs commands in it, nic.py has the kinds of NIC, host.py the Linux hosts beside the router.
Nothing here judges: the checks are in ../checks.
"""
