"""The networks and the mathematics; nothing here knows a command.

Before anything imports PyTorch, its threads sleep while they wait for each other. By default they spin, and with
one other busy program on the machine they then take turns at burning its time: everything is 3 to 15 times slower. Who
sets OMP_WAIT_POLICY or GOMP_SPINCOUNT decides otherwise. The packages of commands import this one first.
"""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
