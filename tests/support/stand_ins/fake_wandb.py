"""A stand-in for the module `wandb`: what was sent to it, by run."""

import importlib.machinery
import types


class FakeRun:
    """A run of W&B: what was logged, and whether it was ended; also as its public API shows it."""

    def __init__(self, settings):
        self.settings, self.points, self.summary, self.ended = settings, {}, {}, False
        self.name, self.config, self.state = settings["name"], settings["config"], "running"

    @property
    def summary_metrics(self):
        return dict(self.summary)

    def log(self, values, *, step):
        # W&B passes over what is not after the last step.
        if step > max(self.points, default=-1):
            self.points[step] = values

    def finish(self):
        self.ended, self.state = True, "finished"


class FakeWandb(types.ModuleType):
    """The module: runs by id, in the order of their first `init`."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.runs, self.inits, self.fault, self.asked = {}, [], None, []

    def init(self, **settings):
        if self.fault is not None:
            raise self.fault
        self.inits.append(settings["id"])
        return self.runs.setdefault(settings["id"], FakeRun(settings))

    def Api(self):
        return FakeApi(self)


class FakeApi:
    """The public API of W&B: every run is of the project that is asked for."""

    def __init__(self, wandb):
        self.wandb = wandb

    def runs(self, path, *, lazy):
        if self.wandb.fault is not None:
            raise self.wandb.fault
        self.wandb.asked.append((path, lazy))
        return iter(self.wandb.runs.values())
