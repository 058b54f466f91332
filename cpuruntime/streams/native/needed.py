"""The kernels that streams need beside those of their programs."""

from cpuruntime.streams.native import again, callbacks, runner, signals

KERNELS = (
    runner.lead, runner.lead_for_task, runner.attend, runner.work, runner.rouse, runner.ring, runner.recall,
    signals.wait, signals.notify, signals.add, callbacks.begin_call, callbacks.offer, callbacks.stand_by,
    again.run_again, again.infer_again,
)  # fmt: skip
