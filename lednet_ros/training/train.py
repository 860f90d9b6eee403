# SPDX-License-Identifier: Apache-2.0
"""The training: recipe, data, network, loop, validation, checkpoints, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lednet_ros import __version__
from lednet_ros.common.errors import ConfigError, DataError, OutOfMemory, first_line
from lednet_ros.common.malloc import keep_all_memory
from lednet_ros.datasets.checks import DataReport
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.datasets.sheet import draw_sheet, labelled
from lednet_ros.images.annotate import class_colors, with_legend
from lednet_ros.model.checkpoint import (
    Checkpoint,
    Preprocessing,
    load_checkpoint,
    save_checkpoint,
)
from lednet_ros.model.networks import AnyNetwork, entry_of, upsample
from lednet_ros.segmentation.device_errors import is_out_of_memory
from lednet_ros.segmentation.letterbox import Fit, place_all
from lednet_ros.segmentation.torch_threads import Threads
from lednet_ros.training.augmentation import resized
from lednet_ros.training.card import write_card
from lednet_ros.training.distributed import Processes, synchronise_batch_norm
from lednet_ros.training.loading import Schedule, load_batches
from lednet_ros.training.losses import PixelLoss, enet_weights
from lednet_ros.training.metrics import Confusion, Scores
from lednet_ros.training.recipe import Recipe
from lednet_ros.training.run_dir import Output
from lednet_ros.training.trained_network import (
    TrainedNetwork,
    choose_dtype,
    new_network,
    refuse_unfit,
    set_dropout,
)

STAGES = ('encoder', 'network')

_LOOK_AT_CORES_S = 0.3  # before the first step
_SAMPLES = 3  # val images that TensorBoard shows, after each epoch


@dataclass(frozen=True)
class Step:
    """What a step says of itself."""

    stage: str
    epoch: int    # from 0, of `epochs`
    epochs: int
    step: int     # from 0, of `steps` in this epoch
    steps: int
    loss: float   # mean over the epoch until now
    images_per_s: float


@dataclass
class Listener:
    """Who follows a training: called in the first process only."""

    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None
    on_note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Job:
    """What is to be trained, on what, by whom. Checked when made."""

    recipe: Recipe
    train: DataReport
    val: DataSet
    output: Output | None = None  # of the first process; the others write nothing
    init: Checkpoint | None = None
    device: torch.device = torch.device('cpu')  # noqa: RUF009  (immutable)
    processes: Processes = Processes()  # noqa: RUF009  (immutable)
    listener: Listener = field(default_factory=Listener)
    name: str = ''  # the run's, for people

    def __post_init__(self) -> None:
        recipe, processes = self.recipe, self.processes
        batch = min(recipe.batch, len(self.train.data))
        if batch % processes.count:
            raise ConfigError(f'batch is {batch}, of all {processes.count} processes '
                              'together: give a multiple of them, and as many images')
        refuse_unfit(recipe, self.init)
        sizes = {resized(recipe, size) for size in self.train.sizes}
        if not recipe.crops and len(sizes) > 1 and recipe.batch > 1:
            raise ConfigError('the images differ in size: give crops, so that they fit a batch')


@dataclass
class Position:
    """Where a training stands: saved and read back with the weights."""

    stage: int = 0
    step: int = 0            # of the stage, done
    loss_sum: float = 0.0    # of this epoch's steps
    best: float = -1.0       # mIoU on the val split, of this stage
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """One training from its beginning, or from where its output directory says, to its end."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.position = Position()
        self.is_stopped = False  # set it, from a signal handler too, to end after this step

    def run(self) -> bool:
        """Train until done or stopped; whether it is done. Raise DataError."""
        if self._job.device.type == 'cpu':
            keep_all_memory()
        self.threads = Threads(self._job.device, _LOOK_AT_CORES_S)
        try:
            return self._run()
        finally:
            self.threads.restore()

    def _run(self) -> bool:
        recipe, position = self._job.recipe, self.position
        output = self._job.output
        state = self._job.processes.share(lambda: output.load() if output else None)
        if state is not None:
            vars(position).update(state['position'])
        network, preprocessing = new_network(
            self._job.train.data.labels, self._job.init, recipe.seed, recipe.network)
        set_dropout(network, *recipe.dropout)
        for number, stage in enumerate(STAGES):
            epochs = (recipe.encoder_epochs, recipe.epochs)[number]
            if number < position.stage or not epochs:
                continue
            if number > position.stage:
                position.stage, position.step, position.best = number, 0, -1.0
            loop = _Loop(self, self._job, network, preprocessing, stage, epochs)
            if state is None:
                loop.save()
            else:
                loop.restore(state)
                state = None
            if self._job.init and not position.history and not position.step:
                loop.score_beginning()
                loop.save()
            try:
                loop.run()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                whose = "the GPU's" if self._job.device.type == 'cuda' else "the computer's"
                raise OutOfMemory(
                    f'{whose} memory does not hold a batch of {recipe.batch} '
                    f'({first_line(error)}): lower batch, or crops; the same command with these '
                    'and another --output begins anew') from error
            if position.step < loop.schedule.steps:
                return False
        return True


class _Loop:
    """One stage: its optimizer, its schedule, its epochs."""

    def __init__(
        self, training: Training, job: Job, network: AnyNetwork, preprocessing: Preprocessing,
        stage: str, epochs: int,
    ) -> None:
        recipe, device = job.recipe, job.device
        self._training, self._job, self._position = training, job, training.position
        self._network, self._preprocessing = network.to(device), preprocessing
        self._stage, self._epochs = stage, epochs
        self._aligned = entry_of(network).aligned
        self.schedule = Schedule(len(job.train.data), recipe, epochs)
        self._dtype = choose_dtype(recipe.precision, device)
        self._loss = PixelLoss(
            _class_weights(job, stage), recipe.ohem, recipe.iou_loss, job.processes)
        if device.type == 'cuda':  # on a CPU it was slower: 0.72 against 0.63 s a step
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if job.processes.count > 1:
            synchronise_batch_norm(network, device)
        self._module = TrainedNetwork(
            network, preprocessing, stage, recipe.auxiliary_loss > 0).to(device)
        kind = torch.optim.Adam if recipe.optimizer == 'adam' else torch.optim.AdamW
        self._optimizer = kind([p for p in network.parameters() if p.requires_grad],
                               recipe.learning_rate, weight_decay=recipe.weight_decay)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)
        self._samples: list[tuple[np.ndarray, str]] = []  # of the last validation, for people
        self._average: AveragedModel | None = None
        if recipe.ema:
            self._average = AveragedModel(
                network, multi_avg_fn=_averaging(recipe.ema), use_buffers=True)
        self._parallel: nn.Module = self._module
        if job.processes.count > 1:
            self._parallel = DistributedDataParallel(self._module, broadcast_buffers=False)

    # What is saved.

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._network.load_state_dict(state['network'])
        self._optimizer.load_state_dict(state['optimizer'])
        if state['scaler']:  # none in a state of another precision, as after a change of device
            self._scaler.load_state_dict(state['scaler'])
        if self._average is not None:
            self._average.load_state_dict(state['average'])

    def save(self) -> None:
        """Write the state that `restore` reads. Raise DataError."""
        if self._job.output:
            self._job.output.save({
                'position': vars(self._position), 'network': self._network.state_dict(),
                'optimizer': self._optimizer.state_dict(), 'scaler': self._scaler.state_dict(),
                'average': self._average.state_dict() if self._average is not None else None})

    # The loop.

    def run(self) -> None:
        """Train to the stage's end or until stopped."""
        job = self._job
        with load_batches(
                job.train.data, self.schedule, self._position.step, job.processes) as batches:
            self._run(batches)

    def _run(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        job, position, schedule = self._job, self._position, self.schedule
        began_s, waited_s, images, is_stopped = time.monotonic(), 0.0, 0, False
        threads: list[int] = []  # of each step
        while position.step < schedule.steps and not is_stopped:
            asked_s = time.monotonic()
            frames, labels = next(batches)
            waited_s += time.monotonic() - asked_s
            threads.append(self._training.threads.follow())
            position.loss_sum += self._step(frames.to(job.device, non_blocking=True),
                                            labels.to(job.device, non_blocking=True))
            epoch, step = divmod(position.step, schedule.steps_per_epoch)
            position.step += 1
            images += len(frames) * job.processes.count
            seconds = time.monotonic() - began_s
            loss = position.loss_sum / (step + 1)
            if not math.isfinite(loss):
                raise _diverged(f'the loss became {loss}', epoch)
            if job.processes.is_first:
                job.listener.on_step(Step(
                    self._stage, epoch, self._epochs, step, schedule.steps_per_epoch, loss,
                    images / seconds))
            is_stopped = job.processes.any(self._training.is_stopped, job.device)
            if step + 1 == schedule.steps_per_epoch:
                self._end_epoch(epoch, loss, {
                    'images_per_s': images / seconds, 'waiting_for_data': waited_s / seconds,
                    'threads': sum(threads) / len(threads)})
                position.seconds += time.monotonic() - began_s
                position.loss_sum = 0.0
                began_s, waited_s, images = time.monotonic(), 0.0, 0
                threads.clear()
                self.save()
            elif is_stopped:
                position.seconds += seconds
                self.save()

    def _step(self, frames: Tensor, labels: Tensor) -> float:
        """Learn from a batch; give its loss."""
        job, position = self._job, self._position
        recipe, processes = job.recipe, job.processes
        for group in self._optimizer.param_groups:
            group['lr'] = self._learning_rate(position.step)
        # Dropout depends on the step alone, so a resumed training draws the same.
        torch.manual_seed((recipe.seed * 1_000_003 + position.step) * 1009 + processes.rank)
        self._parallel.train()
        with torch.autocast(job.device.type, self._dtype, enabled=self._dtype is not None):
            scores, early_scores = self._parallel(frames)
        loss = torch.zeros((), device=job.device)
        if scores is not None:
            loss = loss + self._loss.full_size(scores, labels, self._aligned)
        if early_scores is not None:
            weight = recipe.auxiliary_loss if scores is not None else 1.0
            loss = loss + weight * self._loss.small_size(early_scores, labels)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self._network)
        return float(processes.sum(loss.detach()) / processes.count)

    def _learning_rate(self, step: int) -> float:
        """Return the learning rate: 'poly' (Section 3.1), with a linear rise before."""
        recipe, schedule = self._job.recipe, self.schedule
        rising = recipe.warm_up * schedule.steps_per_epoch
        rise = min(1.0, (step + 1) / rising) if rising else 1.0
        return recipe.learning_rate * rise * (1 - step / schedule.steps) ** recipe.poly_power

    def score_beginning(self) -> None:
        """Score what --init began with as epoch 0, so that the best is never worse than that."""
        self._note(0, float('nan'), self._network, {
            'images_per_s': 0.0, 'waiting_for_data': 0.0, 'threads': 0.0})

    def _end_epoch(self, epoch: int, loss: float, pace: Mapping[str, float]) -> None:
        network = self._network
        # The last step's update came after its loss.
        if not all(_is_finite(n) for n in (network, self._average) if n is not None):
            raise _diverged('the weights overflowed', epoch)
        if self._average is not None:
            network = cast(AnyNetwork, self._average.module)
        self._note(epoch + 1, loss, network, pace)

    def _note(
        self, epoch: int, loss: float, network: AnyNetwork, pace: Mapping[str, float]
    ) -> None:
        """Score a network after so many epochs, keep it and tell."""
        job, position = self._job, self._position
        scores = self._validate(network, epoch)
        row = {
            'stage': self._stage, 'epoch': epoch, 'loss': loss, 'val_miou': scores.miou,
            'val_pixel_accuracy': scores.pixel_accuracy,
            'learning_rate': self._learning_rate(position.step - 1) if epoch else 0.0, **pace,
            **{f'val_iou/{name}': iou for name, iou in scores.class_iou.items()}}
        is_best = scores.miou > position.best
        if is_best:
            position.best = scores.miou
        position.history.append(row)
        if not job.output:
            return
        if self._stage == 'network':
            for name in ('last', 'best') if is_best else ('last',):
                path = job.output.directory / f'{name}.safetensors'
                save_checkpoint(
                    path, network, job.train.data.labels, self._preprocessing,
                    input_height=job.recipe.input_height, input_width=job.recipe.input_width,
                    scores={'val': scores.to_dict()}, training=self._record(epoch))
                write_card(load_checkpoint(path), path.with_suffix('.md'))
        job.output.write_history(position.history)
        picture = (with_legend(draw_sheet(self._samples, 2), class_colors(job.val.labels))
                   if self._samples else None)
        if not job.output.plot({f'{self._stage}/{k}': v for k, v in row.items()},
                               len(position.history), picture):
            job.listener.on_note('TensorBoard is not installed: its curves are left out: '
                                 'pip install tensorboard')
        job.listener.on_epoch(row)

    @torch.no_grad()
    def _validate(self, network: AnyNetwork, epoch: int) -> Scores:
        """
        Score a network on the val split at its labels' size, shared among the processes.

        Raise DataError where finite weights give scores that are not.
        """
        job = self._job
        val, processes = job.val, job.processes
        height, width = job.recipe.input_height, job.recipe.input_width
        confusion = Confusion(len(val.labels))
        self._samples.clear()
        shown = {len(val) * i // _SAMPLES for i in range(_SAMPLES)}
        network.eval()
        is_finite = True
        for index in range(processes.rank, len(val), processes.count):
            image, truth = val.read(index)
            fit = Fit.make(image.shape[:2], (height, width), 'letterbox')  # as the node does
            frame = place_all([image], [True], [fit])
            with torch.autocast(job.device.type, self._dtype, enabled=self._dtype is not None):
                scores = self._module.scores(
                    network, torch.from_numpy(frame).to(job.device))
            full = upsample(network, scores.float(), (height, width))
            is_finite &= bool(full.isfinite().all())
            labels = fit.back(full.argmax(1)[0].to(torch.uint8).cpu().numpy())
            confusion.add(truth, labels)
            if index in shown:
                self._samples += [(labelled(image, truth, val.labels), 'labelled'),
                                  (labelled(image, labels, val.labels), 'seen')]
        if processes.any(not is_finite, job.device):  # the weights are finite all the same
            raise _diverged('the scores overflowed', epoch - 1)
        counts = processes.sum(torch.from_numpy(confusion.counts).to(job.device))
        confusion.counts = np.asarray(counts.cpu())
        return confusion.scores(val.labels)

    def _record(self, epoch: int) -> dict[str, Any]:
        """Say in the checkpoint where its weights come from."""
        job = self._job
        return {
            'run': job.name, 'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'lednet_ros': __version__,
            'data': job.train.data.root.name, 'images': len(job.train.data),
            'data_sha256': job.train.sha256, 'epoch': epoch,
            'recipe': job.recipe.to_dict(), 'hours': round(self._position.seconds / 3600, 2),
            'device': job.device.type, 'processes': job.processes.count,
            'init': {'name': job.init.name, 'sha256': job.init.sha256} if job.init else None}


def _diverged(what: str, epoch: int) -> DataError:
    if epoch < 0:
        return DataError(f'{what} before the first epoch: --init is a network that diverged, or '
                         'one for other input: choose another')
    return DataError(f'{what} in epoch {epoch + 1}: lower learning_rate; the best checkpoint is '
                     'kept')


def _is_finite(network: nn.Module) -> bool:
    values = [v for v in network.state_dict().values() if v.is_floating_point()]
    return bool(torch.stack([v.isfinite().all() for v in values]).all())


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Average exponentially, over less at first: else the random first weights stay for long."""
    def average(averaged: Any, current: Any, count: Any) -> None:
        decay_now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay_now)(averaged, current, count)  # type: ignore[no-untyped-call]

    return average


def _class_weights(job: Job, stage: str) -> Tensor | None:
    kind = job.recipe.class_weights
    if kind == 'none':
        return None
    weights = enet_weights(
        job.train.frequencies, job.recipe.enet_c[STAGES.index(stage)]).to(job.device)
    return weights.sqrt() if kind == 'enet_sqrt' else weights
