"""The training loop: one recipe from its first step, or from its last checkpoint, to its end."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mattecli.errors import MatteError, UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.sampling import Sample
from mattecli.training import validation
from mattecli.training.checkpoint import Checkpoint
from mattecli.training.ema import Ema
from mattecli.training.feed import Feed, Numbered
from mattecli.training.journal import Journal, Note, Progress, Report, Validated
from mattecli.training.processes import Processes, stopped_by_signal
from mattecli.training.recipe import OptimizerSettings, Recipe
from mattecli.training.rounding import SHARE, FewerBits, bf16_weights, change
from mattecli.zoo import checkpoints
from mattecli.zoo.spec import Prediction

PATIENCE = 50
"""Steps in a row whose gradient is not finite, after which the training has failed."""

PICTURES = 8


class Source(Numbered, Protocol):
    """What the loop learns from: `mattecli.mixing.sampling.Mixture`, or anything with its two methods."""

    def validation(self) -> Iterable[Sample]: ...


class Objective(nn.Module):
    """Network and loss as one module, so that data parallelism sees which parameters the loss reaches."""

    def __init__(self, network: nn.Module, bf16: bool, rounding: float) -> None:
        super().__init__()
        self.network = network
        self.bf16 = bf16
        self.rounding = rounding if bf16 else 0.0

    def forward(self, batch: Batch, frames: int) -> dict[str, Tensor]:
        clips = {"frames": frames} if frames > 1 and self.network.spec.recurrent else {}  # type: ignore[union-attr]
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.bf16):
            prediction = self.network(batch.image, trimap=batch.trimap, background=batch.background, **clips)
            rounded = None
            if self.rounding and torch.rand(()) < SHARE:
                with FewerBits():
                    rounded = self.network(batch.image, trimap=batch.trimap, background=batch.background, **clips)
        terms: dict[str, Tensor] = self.network.objective(_float(prediction), batch)  # type: ignore[operator]
        if rounded is not None:
            terms["rounding"] = self.rounding / SHARE * change(rounded.alpha.float(), prediction.alpha.float())
        return terms


class Training:
    """One recipe on its way. `run` returns the figures of the best validation."""

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        source: Source,
        report: Report | None = None,
        *,
        processes: Processes,
        teacher: nn.Module | None = None,
        resume: bool = False,
    ) -> None:
        self.recipe, self.source, self.processes = recipe, source, processes
        self.device, self.bf16 = processes.device, processes.bf16(recipe.run.precision)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = _freeze(self.network, recipe.learns)
        self.teacher = None if teacher is None else teacher.to(self.device).eval().requires_grad_(False)
        self.ema = Ema(self.network, recipe.run.ema)
        self.optimizer = _adamw(self.network, recipe.optimizer)
        self.step = self.skipped = self.failures = 0
        self.best: dict[str, float] = {}
        self.held: list[validation.Held] | None = None
        self._open(report, resume)
        if recipe.run.compile:
            self.network.compile()
        self.objective = processes.parallel(Objective(self.network, self.bf16, recipe.run.rounding))

    def run(self) -> dict[str, float]:
        """Train to the last step; without any, what training would begin with is the result.

        A signal to stop saves a checkpoint and raises `KeyboardInterrupt`.
        """
        run, steps = self.recipe.run, self.recipe.optimizer.steps
        feed, meter = self._feed(), _Meter(self.step)
        try:
            with stopped_by_signal() as stopped:
                if not steps:
                    self._validate()
                feed.fetch()  # before the clock starts: loader processes take seconds to begin
                feed.waited = 0.0
                meter.start(self.step)
                while self.step < steps:
                    meter.add(self._step(feed))
                    self.step += 1
                    if _due(self.step, run.log_every, steps):
                        self._log(meter, feed)
                    if _due(self.step, run.validate_every, steps):
                        meter.pause(self._validate)
                    stop = self.processes.any(stopped())
                    if stop or _due(self.step, run.checkpoint_every, steps):
                        meter.pause(self._save)
                    if stop:
                        self._note("stopped; go on with --resume")
                        raise KeyboardInterrupt
        finally:
            if self.journal is not None:
                self.journal.close()
        return self.best

    def _step(self, feed: Feed) -> dict[str, Tensor]:
        """One optimiser step; its mean loss terms, still on the device, or none if it was left out."""
        accumulate = self.recipe.run.accumulate
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        self.network.train()
        for module in self.frozen:
            module.eval()
        sums: dict[str, Tensor] = {}
        for part in range(accumulate):
            taken = feed.take()
            batch = self._blended(taken.flat())
            torch.manual_seed(self.recipe.seed + self._number(part))
            last = part == accumulate - 1
            with nullcontext() if last else self._alone():
                terms = self.objective(batch, taken.frames)
                loss = torch.stack(list(terms.values())).sum() / accumulate
                if loss.requires_grad:  # what `learns` may take no part in a photo
                    loss.backward()  # type: ignore[no-untyped-call]
            feed.fetch()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / accumulate
        clip = self.recipe.optimizer.clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        if torch.isfinite(norm):
            self._update()
        else:
            self._skip(buffers)
            sums = {}
        self.optimizer.zero_grad(set_to_none=True)
        return sums

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.optimizer, self.step)
        self.optimizer.step()
        self.ema.update(self.network, self.step)
        self.failures = 0

    def _skip(self, buffers: list[Tensor]) -> None:
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.skipped += 1
        self.failures += 1
        self._note("the gradient is not finite, this step is left out")
        if self.failures >= PATIENCE:
            raise MatteError(
                f"The training failed: {PATIENCE} steps in a row had no finite gradient (step {self.step}); "
                "lower optimizer.lr or set run.precision to fp32."
            )

    def _blended(self, batch: Batch) -> Batch:
        """Matte Label Blending on the samples that know only a mask, or nothing."""
        asking = (batch.label == Label.MASK) | (batch.label == Label.NONE)
        masks = asking.nonzero()[:, 0] if self.teacher is not None else batch.label[:0]
        if self.teacher is None or not len(masks):
            return batch
        from mattecli.mixing.blending import blend

        given = batch.given()
        chosen = replace(batch, **{name: value[masks] for name, value in given.items()})
        with torch.no_grad():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                prediction = self.teacher(chosen.image, trimap=chosen.trimap, background=chosen.background)
            blended = blend(_float(prediction), chosen)
            changes = {
                name: value.index_copy(0, masks, getattr(blended, name).to(value.dtype))
                for name, value in given.items()
            }
        return replace(batch, **changes)

    def _feed(self) -> Feed:
        steps, accumulate = self.recipe.optimizer.steps, self.recipe.run.accumulate
        stop = steps * accumulate * self.processes.world
        indices = range(self._number(0), stop, self.processes.world)
        return Feed(self.source, indices, self.recipe.run.workers, self.device)

    def _number(self, part: int) -> int:
        """The number of this process's batch `part` of this step: none is used twice."""
        place = self.step * self.recipe.run.accumulate + part
        return place * self.processes.world + self.processes.rank

    def _alone(self) -> Any:
        return self.objective.no_sync() if isinstance(self.objective, DistributedDataParallel) else nullcontext()

    def _log(self, meter: _Meter, feed: Feed) -> None:
        terms, seconds = self.processes.mean(meter.means()), meter.seconds()
        rate = (self.step - meter.first) / seconds
        waiting, feed.waited = min(1.0, feed.waited / seconds), 0.0
        loss, left = sum(terms.values(), 0.0), self.recipe.optimizer.steps - self.step
        lr = learning_rate(self.recipe.optimizer, self.step - 1)
        meter.start(self.step)
        if self.journal is not None:
            steps, eta = self.recipe.optimizer.steps, left / rate
            self.journal(Progress(self.step, steps, loss, terms, lr, rate, eta, waiting, self.skipped))

    def _validate(self) -> None:
        if self.journal is None:
            return
        if self.held is None:
            self.held = validation.hold(self.source.validation())
        if not self.held:  # nothing to choose by: the last weights are the best
            self._export(self._averaged()[1], {})
            return
        pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        strips: dict[str, NDArray[np.uint8]] = {}
        network, tensors = self._averaged()
        for photo, alpha in validation.predict(network, self.held, self.device, self.bf16):
            pairs.append((alpha, photo.alpha))
            if len(strips) < PICTURES:
                strips[photo.name] = validation.strip(photo, alpha)
        figures = {**validation.measure(pairs), "step": float(self.step)}
        better = figures["mad"] < self.best.get("mad", math.inf)
        if better:
            self.best = figures
            self._export(tensors, figures)
        self.journal(Validated(self.step, {k: v for k, v in figures.items() if k != "step"}, better))
        self.journal.pictures(self.step, strips)

    def _averaged(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The averaged network as it will be read from the export, and the tensors that are written there."""
        if not self.recipe.run.bf16_weights:
            return self.ema.network, self.ema.network.state_dict()
        network, tensors = copy.deepcopy(self.ema.network), bf16_weights(self.ema.network)
        network.load_state_dict(tensors)
        return network, tensors

    def _export(self, tensors: dict[str, Tensor], figures: dict[str, float]) -> None:
        metadata = {"model": self.recipe.model, "recipe": self.recipe.digest(), **figures}
        checkpoints.save(self.recipe.best, tensors, {**metadata, "step": self.step})

    def _save(self) -> None:
        if self.journal is None:
            return
        Checkpoint(
            model=self.network.state_dict(),
            ema=self.ema.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            skipped=self.skipped,
            best=self.best,
            name=self.recipe.model,
            digest=self.recipe.digest(),
        ).save(self.recipe.last)

    def _open(self, report: Report | None, resume: bool) -> None:
        """Read the checkpoint or the first weights, then open the logs (in the first process only)."""
        self.journal: Journal | None = None
        state = Checkpoint.load(self.recipe.last) if self.recipe.begun(resume) else None
        if state is not None:
            self._restore(state)
        self.processes.wait()
        if self.processes.rank == 0:
            self.recipe.output.mkdir(parents=True, exist_ok=True)
            self.journal = Journal(self.recipe.output, report)
        count = sum(p.numel() for p in self.network.parameters()) / 1e6
        precision = "bf16" if self.bf16 else "fp32"
        self._note(f"{self.recipe.model}, {count:.2f} M parameters, on {self.processes} in {precision}")
        if state is not None and state.digest != self.recipe.digest():
            self._note("the recipe has changed since the checkpoint was written")

    def _restore(self, state: Checkpoint) -> None:
        if state.name != self.recipe.model:
            raise UsageError(f"{self.recipe.last} is a training of {state.name}, not of {self.recipe.model}.")
        try:
            self.network.load_state_dict(state.model)
            self.ema.network.load_state_dict(state.ema)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{self.recipe.last} does not fit this version of {state.name}: {error}") from error
        self.step, self.skipped, self.best = state.step, state.skipped, state.best

    def _note(self, text: str) -> None:
        if self.journal is not None:
            self.journal(Note(self.step, text))


class _Meter:
    """Sums of loss terms on the device since `start`, and the time."""

    def __init__(self, step: int) -> None:
        self.start(step)

    def start(self, step: int) -> None:
        self.first, self.count, self.begun = step, 0, time.perf_counter()
        self.sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        self.count += bool(terms)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def pause(self, work: Callable[[], None]) -> None:
        """Do something whose time does not count."""
        start = time.perf_counter()
        work()
        self.begun += time.perf_counter() - start

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.count for name, value in self.sums.items()}

    def seconds(self) -> float:
        return max(time.perf_counter() - self.begun, 1e-9)


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """The rate of step 0, 1, …: linear warm-up, then constant or half a cosine down to `min_lr` · `lr`."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (settings.min_lr + (1 - settings.min_lr) * 0.5 * (1 + math.cos(math.pi * share)))


def _adamw(network: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Weight decay for matrices and kernels, none for biases and normalisations."""
    learned = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)


def _freeze(network: nn.Module, learns: Iterable[str]) -> list[nn.Module]:
    """Only parameters whose names fit a pattern of `learns` will train. Returns the modules of which none does.

    Raises `UsageError` for a pattern that fits nothing.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in learns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"learns: {pattern!r} fits no parameter of the network, such as {names[0]}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in learns))
    parts = ((module, list(module.parameters())) for module in network.modules())
    return [module for module, own in parts if own and not any(parameter.requires_grad for parameter in own)]


def _due(step: int, every: int, steps: int) -> bool:
    return step == steps or (every > 0 and step % every == 0)


def _float(prediction: Prediction) -> Prediction:
    changes: dict[str, Any] = {"maps": {name: value.float() for name, value in prediction.maps.items()}}
    for name in ("alpha", "foreground", "instances", "boundary"):
        if (value := getattr(prediction, name)) is not None:
            changes[name] = value.float()
    return replace(prediction, **changes)
