"""Frechet and kernel distances between generated and real images, by the features of a network.

With torch-fidelity's Inception these are FID and KID; with any other network they are numbers of another kind and have
another name (``frechet_vgg16``, ``kernel_vgg16``), never to be compared with published FIDs.

Below as many images as there are features (2048 of Inception) the covariances are rank-deficient and the Frechet
distance depends on the number of images: compare it only at equal numbers. Every figure comes with the number,
``fid_images``. The kernel distance has no such bias, but a spread.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from nibkit.errors import UserError
from nibkit.inception import find_inception, inception_features
from nibkit.metrics.feature_cache import FeatureCache, image_digest, network_digest
from nibkit.ranks import is_first_rank, of_all_ranks
from nibkit.vgg import PERCEPTUAL_LAYER, find_network, read_convolutions, vgg_features

log = logging.getLogger(__name__)

VGG_LAYER = PERCEPTUAL_LAYER  # so that one file serves the perceptual loss and the figures


class DistributionMetrics:
    """The distances between generated and real images, both from one pass of the images through one network.

    This is a plain object, no module: no task's checkpoint and no optimizer sees the network. The features of all
    images of all ranks come together before anything is computed, so the figures are those of a single process.

    Args:
        features: the network, in eval mode: from uint8 ``[B, 3, H, W]`` to ``[B, D]``.
        name: of the Frechet distance.
        kernel_name: of the kernel distance; None for none.
        cache: the folder that keeps the features of real images, so that another run need not compute them; None for
            none. See :mod:`nibkit.metrics.feature_cache`.
    """

    def __init__(
        self, features: nn.Module, name: str = "fid", kernel_name: str | None = "kid", cache: Path | None = None
    ) -> None:
        self.features, self.name, self.kernel_name, self.cache = features, name, kernel_name, cache
        self._known: FeatureCache | None = None
        self.reset()

    def reset(self) -> None:
        """Start anew; features of real images stay known."""
        self._digests: list[bytes] = []  # of the real images
        self._real: list[Tensor] = []  # features of each batch, [B, D] on the CPU
        self._fake: list[Tensor] = []

    def to(self, device: torch.device) -> DistributionMetrics:
        """Compute features on a device; the images must be there too."""
        self.features.to(device)
        self._known = None  # convolutions differ a little between kinds of devices
        return self

    @torch.no_grad()
    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add as many real as generated images.

        Args:
            real: ``[B, 3, H, W]`` in [-1, 1]; both are clamped and rounded to 8 bit, as files are.
            fake: the same of the generated ones; one with a NaN makes the distances NaN.
        """
        if len(real) != len(fake):
            raise ValueError(f"{len(real)} real images but {len(fake)} generated ones; give as many of each")
        features = self._features_of(to_uint8(fake))
        broken = fake.isnan().flatten(1).any(dim=1)
        self._fake.append(features.masked_fill(broken[:, None], torch.nan).cpu())
        digests, features = self._remembered(to_uint8(real))
        self._digests += digests
        self._real.append(features)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures by name; every rank must call it.

        They are the Frechet distance, the kernel distance (both float64) and ``<name>_images``, the number of images
        of each kind. The distances are NaN for fewer than two images.
        """
        parts = of_all_ranks((self._digests, self._real, self._fake))
        digests, real, fake = ([one for part in kind for one in part] for kind in zip(*parts, strict=True))
        figures = {f"{self.name}_images": torch.tensor(len(digests))}
        names = [self.name, *([self.kernel_name] if self.kernel_name else [])]
        if len(digests) < 2:
            log.warning("%s: of %d image(s) there is no distance; judge at least 2", self.name, len(digests))
            return figures | {name: torch.tensor(torch.nan, dtype=torch.float64) for name in names}
        sets = torch.cat(real), torch.cat(fake)
        self._save(digests, sets[0])
        return {name: distance(*sets) for name, distance in zip(names, DISTANCES, strict=False)} | figures

    def _features_of(self, images: Tensor) -> Tensor:
        """Return the features of 8-bit images, ``[B, D]`` in float32 whatever the precision of the run."""
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.features(images)
        return features.float()

    def _remembered(self, images: Tensor) -> tuple[list[bytes], Tensor]:
        """Return digest and features of real 8-bit images; only unknown ones go through the network."""
        known = self._cache_on(images.device)
        digests = [image_digest(image) for image in images]
        fresh = [i for i, digest in enumerate(digests) if digest not in known.known]
        if fresh:
            known.add(dict(zip([digests[i] for i in fresh], self._features_of(images[fresh]), strict=True)))
        return digests, torch.stack([known.known[digest] for digest in digests])

    def _cache_on(self, device: torch.device) -> FeatureCache:
        if self._known is None:
            network = f"{self.name}-{device.type}-{network_digest(self.features)}" if self.cache else ""
            self._known = FeatureCache(self.cache, network)
        return self._known

    def _save(self, digests: list[bytes], real: Tensor) -> None:
        """Write the features of the real images of all ranks, ``[N, D]``."""
        if self._known is not None and is_first_rank():
            self._known.add(dict(zip(digests, real, strict=True)))
            self._known.save()


def inception_metrics(
    weights_path: str | None = None, download: bool = False, cache: Path | None = None, kid: bool = True
) -> DistributionMetrics:
    """Return FID, and KID: the distances by torch-fidelity's Inception.

    Args:
        weights_path: Inception's; see :func:`nibkit.inception.find_inception`.
        download: whether to download them if they are not there.
        cache: see :class:`DistributionMetrics`.
        kid: whether to give the kernel distance, too.

    Raises:
        UserError: there are no weights, or the file cannot be used.
    """
    features = inception_features(find_inception(weights_path, download))
    return DistributionMetrics(features, "fid", "kid" if kid else None, cache)


def vgg_metrics(weights_path: str, cache: Path | None = None) -> DistributionMetrics:
    """Return the distances by VGG16 or VGG19, whichever the file holds, named after it.

    Args:
        weights_path: as of :func:`nibkit.vgg.vgg_features`; up to conv5_1 at least.
        cache: see :class:`DistributionMetrics`.

    Raises:
        UserError: the file cannot be used.
    """
    try:
        network = find_network(read_convolutions(Path(weights_path)), Path(weights_path))
        features = VGGMeans(vgg_features(weights_path=weights_path, layer=VGG_LAYER))
    except UserError as error:
        raise UserError(f"metrics.frechet.weights_path: {error}") from error
    return DistributionMetrics(features, f"frechet_{network}", f"kernel_{network}", cache)


class VGGMeans(nn.Module):
    """The means over all pixels of VGG's features at relu5_1; images keep their size.

    Args:
        vgg: from :func:`nibkit.vgg.vgg_features`, up to conv5_1.
    """

    def __init__(self, vgg: nn.Module) -> None:
        super().__init__()
        self.vgg = vgg

    def forward(self, images: Tensor) -> Tensor:
        """Return ``[B, 512]`` of uint8 images ``[B, 3, H, W]``."""
        return F.relu(self.vgg(images / 127.5 - 1)).mean(dim=(2, 3))


def to_uint8(images: Tensor) -> Tensor:
    """Return images of any shape in [-1, 1] as uint8, clamped and rounded as files are."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def frechet_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Return the Frechet distance between two sets of features, float64, computed by torchmetrics.

    Args:
        real: ``[N, D]``, N at least 2.
        fake: ``[M, D]``, M at least 2. NaN makes the distance NaN.
    """
    if not (real.isfinite().all() and fake.isfinite().all()):
        return torch.tensor(torch.nan, dtype=torch.float64)  # eigenvalues would be an error
    # the features are those of all ranks already, and come from no network of its own
    metric = FrechetInceptionDistance(feature=Given(real.shape[1]), sync_on_compute=False)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    distance: Tensor = metric.compute()
    return distance


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy between features ``[N, D]`` and ``[N, D]``, float64.

    The kernel is (x y / D + 1)^3, as of KID, computed by torchmetrics. Unbiased, over all pairs at once instead of
    random subsets, so it depends neither on chance nor on the order. 10000 images need 2.4 GB.
    """
    distance: Tensor = poly_mmd(real.double(), fake.double())
    return distance


DISTANCES = (frechet_distance, kernel_distance)


class Given(nn.Identity):
    """Stands where torchmetrics wants a network, for features that are there already.

    Args:
        num_features: D, which torchmetrics asks for.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
