import os
import signal
import socket
import subprocess
import time

import torch


def tiny():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))


def wide():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1152, 10)
    )


def heavy():
    """About a millisecond a picture."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 256, 3), torch.nn.ReLU(), torch.nn.Conv2d(256, 256, 3), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4096, 10))


def slow():
    time.sleep(2.5)
    return tiny()


def aborts():
    os.abort()


def raises():
    raise ZeroDivisionError("the builder divides by nothing")


def leaves():
    os._exit(7)


def hangs():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What it starts must not outlive it either.
    subprocess.Popen(["sleep", "600"])
    while True:
        time.sleep(1)


def eats():
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)) * 64)
        time.sleep(0.01)


def garbles():
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"all your base\n")
        except OSError:
            continue
    return tiny()


def calls_home():
    socket.create_connection(("127.0.0.1", int(os.environ.get("PLANTED_PORT", "9"))), timeout=2)
    return tiny()
