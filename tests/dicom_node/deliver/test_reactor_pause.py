"""The pause of an association's reactor."""

from __future__ import annotations

import threading

from dicom_node.deliver.reactor_pause import ReactorPause


class Reactor(threading.Thread):
    """Goes past the checkpoint again and again, and says when it is between two passages."""

    def __init__(self):
        super().__init__(daemon=True)
        self.checkpoint = ReactorPause(self)
        self.is_between = False
        self.is_asked_to_end = False

    def run(self):
        while not self.is_asked_to_end:
            self.checkpoint.wait()
            self.is_between = True
            threading.Event().wait(0.002)
            self.is_between = False


def test_reactor_stands_still_whenever_it_was_stopped():
    reactor = Reactor()
    reactor.start()
    for _ in range(100):
        reactor.checkpoint.clear()
        assert not reactor.is_between
        reactor.checkpoint.set()
    reactor.is_asked_to_end = True
    reactor.join(10)
    assert not reactor.is_alive()


def test_reactor_that_has_ended_is_not_waited_for():
    reactor = Reactor()
    reactor.is_asked_to_end = True
    reactor.start()
    reactor.join(10)
    reactor.checkpoint.clear()
    assert not reactor.checkpoint.is_set()
    assert reactor.checkpoint.wait(0.01) is False


def test_reactor_may_stop_itself():
    done = threading.Event()

    class Selfish(Reactor):
        def run(self):
            self.checkpoint.clear()
            self.checkpoint.set()
            done.set()

    Selfish().start()
    assert done.wait(10)
