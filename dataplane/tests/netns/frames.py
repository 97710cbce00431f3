"""Frames on an interface: frames.py send IF HEX | wait IF SECONDS OFFSET:HEX... | tcp-server ADDRESS PORT | tcp-client ADDRESS PORT |
tcp-echo ADDRESS PORT | tcp-beat SOURCE ADDRESS PORT SECONDS

wait prints "ready", and "found" once a frame has all the bytes at their offsets. tcp-beat prints "ready" after its first
answer and "done" in the end, if every answer came within 5 seconds.
"""
import socket
import sys
import time


def packets(interface):
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    opened.bind((interface, 0))
    return opened


def wait(interface, seconds, conditions):
    opened, end = packets(interface), time.time() + float(seconds)
    wanted = [(int(at), bytes.fromhex(text)) for at, text in (word.split(":") for word in conditions)]
    print("ready", flush=True)
    while time.time() < end:
        opened.settimeout(max(0.01, end - time.time()))
        try:
            frame = opened.recv(65536)
        except socket.timeout:
            break
        if all(frame[at : at + len(value)] == value for at, value in wanted):
            print("found", flush=True)
            return
    sys.exit("not found")


def tcp(kind, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.settimeout(10)
    if kind == "tcp-server":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, int(port)))
        opened.listen()
        print("ready", flush=True)
        accepted = opened.accept()[0]
        accepted.sendall(accepted.recv(100))
        accepted.recv(100)
    else:
        opened.connect((address, int(port)))
        opened.sendall(b"hello")
        print(opened.recv(100).decode(), flush=True)


def stream(address):
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    opened.settimeout(5)
    return opened


def echo(address, port):
    opened = stream(address)
    opened.bind((address, int(port)))
    opened.listen()
    print("ready", flush=True)
    opened.settimeout(60)
    accepted = opened.accept()[0]
    while data := accepted.recv(100):
        accepted.sendall(data)


def beat(source, address, port, seconds):
    opened = stream(address)
    opened.bind((source, 0))
    opened.connect((address, int(port)))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end, number = time.time() + float(seconds), 0
    while time.time() < end:
        opened.sendall(b"%09d" % number)
        assert opened.recv(100) == b"%09d" % number
        if number == 0:
            print("ready", flush=True)
        number += 1
        time.sleep(0.05)
    print("done", flush=True)


command, arguments = sys.argv[1], sys.argv[2:]
if command == "send":
    packets(arguments[0]).send(bytes.fromhex(arguments[1]))
elif command == "wait":
    wait(arguments[0], arguments[1], arguments[2:])
elif command == "tcp-echo":
    echo(*arguments)
elif command == "tcp-beat":
    beat(*arguments)
else:
    tcp(command, *arguments)
