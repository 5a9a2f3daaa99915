"""Notes which methods of Octavia's classes were called and how that ended, without standing in for any of them."""

import collections
import functools


class Recorder:
    """What became of the calls: method names with how often they returned, and the exceptions they raised."""

    def __init__(self):
        self.returned = collections.Counter()
        self.raised = collections.defaultdict(set)

    def watch(self, base):
        """A subclass of `base` whose public callables are noted, functools.partial attributes included."""
        note = self._noted

        class Watched(base):
            def __getattribute__(self, name):
                value = super().__getattribute__(name)
                return value if name.startswith("_") or not callable(value) else note(name, value)

        return Watched

    def _noted(self, name, method):
        @functools.wraps(method)
        def call(*args, **kwargs):
            try:
                value = method(*args, **kwargs)
            except Exception as error:
                self.raised[name].add(type(error).__name__)
                raise
            self.returned[name] += 1
            return value

        return call

    def report(self, instance):
        """Of every public callable of `instance`, found by looking at it, how it did."""
        names = [n for n in dir(instance) if not n.startswith("_") and callable(getattr(instance, n))]
        return {n: {"returned": self.returned[n], "raised": sorted(self.raised[n])} for n in names}
