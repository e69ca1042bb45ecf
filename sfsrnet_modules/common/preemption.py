"""Being told to stop: SIGTERM, and SIGUSR1 as SLURM can send it some minutes before the end."""

import os
import signal
import sys
import threading

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
REQUEUE = 75  # exit code: EX_TEMPFAIL of sysexits.h, "run it again"; recipes/slurm/ acts on it


class Preemption:
    """Remembers that this process was told to stop; what runs then stops where it can.

    Example
    -------
    >>> preemption = Preemption()
    >>> preemption.listen()
    >>> signal.raise_signal(signal.SIGUSR1)
    >>> preemption.requested
    True
    """

    def __init__(self):
        self.requested = False
        self.process = os.getpid()

    def listen(self) -> None:
        """From here on remember the signals, also where what started this process blocks them."""
        for number in SIGNALS:
            signal.signal(number, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _remember(self, number: int, frame) -> None:
        if os.getpid() == self.process:
            self.requested = True

    @staticmethod
    def ignore_signals(worker: int) -> None:
        """Let a loader's worker go on when SLURM signals all that a job started.

        The step in progress needs it. PyTorch's workers die of a SIGTERM, whoever it is from: here
        only the process that started them can end them so. A ``worker_init_fn``.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_wait_for_parent, daemon=True).start()

    @staticmethod
    def leave() -> None:
        """End the process with the exit code that asks to be run again."""
        logger.info(
            "Told to stop: the same command goes on from the newest checkpoint "
            f"(exit code {REQUEUE})"
        )
        sys.exit(REQUEUE)


def _wait_for_parent() -> None:
    while True:
        received = signal.sigwaitinfo(SIGNALS)
        if received.si_signo == signal.SIGTERM and received.si_pid == os.getppid():
            os._exit(0)
