"""A plain training step of every task: zero_grad, forward, losses, backward, clip where the config clips, Adam.

:func:`make_stock` reads the same config as our own run, so that both have the same networks, weights of the losses,
crops and batches. A step is given a batch of the task's data loader and returns its loss terms by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.stock import halftone_losses, networks, synthesis
from benchmarks.stock.halftone_losses import Term

Batch = Mapping[str, Any]
Terms = dict[str, Tensor]
Step = Callable[[Batch], Terms]


def make_stock(config: DictConfig, device: str = "cpu") -> tuple[nn.ModuleDict, Step]:
    """Return the stock networks of a run, on ``device``, and the step that trains them."""
    kind = config.task["_target_"].rpartition(".")[2]
    make = {
        "DitheringTask": _halftoning,
        "HalftoningTask": _halftoning,
        "AutoencoderTask": _autoencoder,
        "InvertibleGrayscaleTask": _invertible_grayscale,
        "SemanticSynthesisTask": _semantic_synthesis,
        "SegmentationTask": _segmentation,
    }[kind]
    return make(config, device)


def on_device(batch: Batch, device: str) -> dict[str, Any]:
    """Return a batch with its tensors on ``device``."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def _adam(network: nn.Module, spec: DictConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=spec.lr, betas=tuple(spec.get("betas", (0.9, 0.999))))


def _plain_step(network: nn.Module, config: DictConfig, losses: Callable[[Batch], Terms], device: str) -> Step:
    """Return the step of a single network; ``losses`` gives its weighted terms."""
    optimizer, clip = _adam(network, config.task.optimizer), config.trainer.gradient_clip_val

    def step(batch: Batch) -> Terms:
        optimizer.zero_grad()
        terms = losses(on_device(batch, device))
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        return terms

    return step


def flat_images(level: Tensor, like: Tensor) -> Tensor:
    """Return constant images of tones ``level`` ``[B, C]`` in [0, 1], of the height and width of ``like``."""
    return (2 * level - 1)[..., None, None].expand(-1, -1, *like.shape[-2:])


def _halftoning(config: DictConfig, device: str) -> tuple[nn.ModuleDict, Step]:
    b, task = config.backbone, config.task
    if b.name == "unet":
        network: nn.Module = networks.UNet(b.in_channels, b.out_channels, b.width, b.train_margin)
    else:
        network = networks.resnet(b.in_channels, b.out_channels, b.width, b.blocks)
    network = network.to(device)
    image_terms, flat_terms = _halftone_terms(task)
    estimate = per_pixel if task.estimator == "per_pixel" else relaxed

    def losses(batch: Batch) -> Terms:
        image = batch["image"]
        if not flat_terms:
            return estimate(network(image), image, image_terms)
        flat = flat_images(batch["level"], image)
        output, flat_output = network(torch.cat((image, flat))).split(len(image))
        return estimate(output, image, image_terms) | estimate(flat_output, flat, flat_terms)

    return nn.ModuleDict({"backbone": network}), _plain_step(network, config, losses, device)


def _halftone_terms(task: DictConfig) -> tuple[dict[str, tuple[Term, float]], dict[str, tuple[Term, float]]]:
    """Return the terms on images and those on constant grays, with their weights."""
    image = {"tone": (halftone_losses.tone(task.sigma), float(task.tone_weight))}
    flat = {}
    if "structure_weight" in task:
        image["structure"] = (halftone_losses.structure(task.structure_textured), task.structure_weight)
        flat["flat_tone"] = (halftone_losses.tone(task.sigma), task.flat_tone_weight)
        flat["flat_blue_noise"] = (halftone_losses.blue_noise(), task.blue_noise_weight)
    if task.estimator == "relaxed":
        image["binarization"] = (halftone_losses.binarization(), task.binarization_weight)
        flat |= {"flat_binarization": image["binarization"]} if flat else {}
    return image, flat


def relaxed(output: Tensor, gray: Tensor, terms: Mapping[str, tuple[Term, float]]) -> Terms:
    """Return the weighted terms of the relaxed halftone."""
    halftone = torch.tanh(output)
    return {name: weight * term.loss(halftone, gray) for name, (term, weight) in terms.items()}


def draw_pixels(p: Tensor) -> Tensor:
    """Return binary pixels that are white with probability ``p``."""
    return 2 * torch.bernoulli(p) - 1


def per_pixel(output: Tensor, gray: Tensor, terms: Mapping[str, tuple[Term, float]]) -> Terms:
    """Return the weighted terms of drawn pixels; their gradient by the probabilities is the flip gain."""
    p = torch.sigmoid(2 * output)
    answer: Terms = {}
    with torch.no_grad():
        halftone = draw_pixels(p)
        drawn = {name: (term.loss(halftone, gray), term.gain(halftone, gray)) for name, (term, _) in terms.items()}
    for name, (value, gain) in drawn.items():
        expected = (p * gain).sum()
        answer[name] = terms[name][1] * (expected - expected.detach() + value)
    return answer


def _autoencoder(config: DictConfig, device: str) -> tuple[nn.ModuleDict, Step]:
    b = config.backbone
    network = networks.autoencoder(b.in_channels, b.out_channels, b.width, b.latent, b.blocks).to(device)

    def losses(batch: Batch) -> Terms:
        return {"reconstruction": F.mse_loss(network(batch["image"]), batch["image"])}

    return nn.ModuleDict({"backbone": network}), _plain_step(network, config, losses, device)


def _invertible_grayscale(config: DictConfig, device: str) -> tuple[nn.ModuleDict, Step]:
    b, task = config.backbone, config.task
    encoder = networks.Subpixel(b.in_channels, 1, b.encoder.width, b.encoder.get("blocks", 6), nib=True)
    decoder = networks.Subpixel(1, b.out_channels, b.decoder.width, b.decoder.get("blocks", 6), nib=False)
    network = nn.ModuleDict({"encoder": encoder, "decoder": decoder}).to(device)

    def losses(batch: Batch) -> Terms:
        image = torch.cat((batch["image"], flat_images(batch["level"][: task.flats], batch["image"])))
        gray, light = encoder(image), networks.gray_of(image)
        restored, tolerance = decoder(to_8_bit(gray)), task.lightness_tolerance
        return {
            "reconstruction": task.reconstruction_weight * F.mse_loss(restored, image),
            "lightness": task.lightness_weight * ((gray - light).abs().clamp(min=tolerance).mean() - tolerance),
            "likeness": task.likeness_weight * F.mse_loss(gray, light),
        }

    return network, _plain_step(network, config, losses, device)


def to_8_bit(image: Tensor) -> Tensor:
    """Return ``image`` on the 256 levels of [-1, 1]; the gradient passes unchanged."""
    clamped = image.clamp(-1, 1)
    return clamped + (torch.round((clamped + 1) * 127.5) / 127.5 - 1 - clamped).detach()


def _segmentation(config: DictConfig, device: str) -> tuple[nn.ModuleDict, Step]:
    b = config.backbone
    network = networks.Segmenter(b.in_channels, b.out_channels, b.width).to(device)

    def losses(batch: Batch) -> Terms:
        return {"cross_entropy": F.cross_entropy(network(batch["image"]), batch["target"], ignore_index=255)}

    return nn.ModuleDict({"backbone": network}), _plain_step(network, config, losses, device)


def _semantic_synthesis(config: DictConfig, device: str) -> tuple[nn.ModuleDict, Step]:
    b, d = config.backbone, config.discriminator
    judged = b.in_channels + b.out_channels
    if b.name == "spade":
        generator: nn.Module = synthesis.Spade(b.in_channels, b.out_channels, b.width, b.hidden, b.ups)
        discriminator: nn.Module = synthesis.Multiscale(judged, d.width, d.layers, d.scales)
    else:
        generator = synthesis.Pix2Pix(b.in_channels, b.out_channels, b.width, b.downs, b.dropout)
        discriminator = synthesis.PatchGAN(judged, d.width, d.layers)
    generator, discriminator = generator.to(device), discriminator.to(device)
    step = _adversarial_step(generator, discriminator, config, device)
    return nn.ModuleDict({"backbone": generator, "discriminator": discriminator}), step


def _adversarial_step(generator: nn.Module, discriminator: nn.Module, config: DictConfig, device: str) -> Step:
    task, planes = config.task, config.backbone.in_channels
    g_adam, d_adam = _adam(generator, task.optimizer), _adam(discriminator, task.discriminator_optimizer)
    of_fake, of_real, of_fakes = GAN_LOSSES[task.gan_loss]

    def step(batch: Batch) -> Terms:
        batch = on_device(batch, device)
        label, real = one_hot(batch["label"], planes), batch["image"]
        fake = generator(label)

        d_adam.zero_grad()
        judged = both(discriminator, torch.cat((label, real), 1), torch.cat((label, fake.detach()), 1))
        d_loss = torch.stack([of_real(r) + of_fakes(f) for r, f in judged]).mean()
        (task.discriminator_weight * d_loss).backward()
        d_adam.step()

        discriminator.requires_grad_(False)
        g_adam.zero_grad()
        features = discriminator(torch.cat((label, fake), 1))
        adversarial = torch.stack([of_fake(scale[-1]) for scale in features]).mean()
        terms = {"adversarial": task.adversarial_weight * adversarial}
        if task.feature_matching_weight:
            with torch.no_grad():
                wanted = discriminator(torch.cat((label, real), 1))
            terms["feature_matching"] = task.feature_matching_weight * feature_matching(features, wanted)
        if task.l1_weight:
            terms["l1"] = task.l1_weight * F.l1_loss(fake, real)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        g_adam.step()
        discriminator.requires_grad_(True)
        return terms | {"discriminator": d_loss}

    return step


def both(discriminator: nn.Module, real: Tensor, fake: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the logits of real and generated images by scale: SPADE's published code puts them in one batch."""
    if isinstance(discriminator, synthesis.Multiscale):
        scales = discriminator(torch.cat((real, fake)))
        return [(scale[-1][: len(real)], scale[-1][len(real) :]) for scale in scales]
    pairs = zip(discriminator(real), discriminator(fake), strict=True)
    return [(r[-1], f[-1]) for r, f in pairs]


def one_hot(label: Tensor, planes: int) -> Tensor:
    """Return one plane per class, ``[B, planes, H, W]``."""
    batch, height, width = label.shape
    return torch.zeros(batch, planes, height, width, device=label.device).scatter_(1, label[:, None], 1.0)


# of the generator's fakes, and to the discriminator of real images and of fakes
GAN_LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (lambda d: -d.mean(), lambda d: F.relu(1 - d).mean(), lambda d: F.relu(1 + d).mean()),
    "bce": (
        lambda d: F.binary_cross_entropy_with_logits(d, torch.ones_like(d)),
        lambda d: F.binary_cross_entropy_with_logits(d, torch.ones_like(d)),
        lambda d: F.binary_cross_entropy_with_logits(d, torch.zeros_like(d)),
    ),
}


def feature_matching(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Return the distance of the discriminator's features, those of all layers but the logits."""
    distances = [
        F.l1_loss(f, r)
        for fakes, reals in zip(fake, real, strict=True)
        for f, r in zip(fakes[:-1], reals[:-1], strict=True)
    ]
    return torch.stack(distances).sum() / len(fake)
