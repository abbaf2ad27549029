"""``kfws`` and ``python -m kfws``.

Signals are taken in hand before anything heavy is imported: a Ctrl-C in the first tenth of a
second leaves as quietly as a later one.
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
