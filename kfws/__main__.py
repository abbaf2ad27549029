"""``kfws`` and ``python -m kfws``.

Signals are taken in hand before anything heavy of ours is imported, so that an early Ctrl-C leaves
quietly too; what Python and an installer's script do ahead of this file is beyond its reach.
"""

import gc

from kfws.cli.signals import leave_on_signals

# Of objects; about 60,000 are made until a stream begins.
IMPORTED = 100_000


def main() -> None:
    leave_on_signals()
    # What is imported stays. To look through it for garbage, several times on the way and twice
    # at the end, would take a fifth of a short run.
    gc.set_threshold(IMPORTED, 10, 10)
    try:
        from kfws.cli.app import main as run

        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
