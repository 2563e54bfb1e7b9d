"""Surface normals from a depth map, where a data set stores none.

A plane n . P = c seen by a pinhole camera has inverse depth q = 1/Z affine in the pixel, so the
normal follows from q's gradient in closed form:
    n  is parallel to  -(q_x, q_y, q - x q_x - y q_y),
with x, y the ray's coordinates at Z = 1 and q_x, q_y the derivatives along them. With that sign
the normal faces the camera everywhere (n . ray = -q < 0).

Depth in steps has useless gradients, so q is smoothed first by a Gaussian. Across an occlusion
the smoothed surface is an invention: pixels where q within the window departs from its tangent
plane by more than `MAX_ROUGHNESS` of itself are left unknown. On the four NYU-v2 frames whose
normals are published this takes the mean error from 14-21 to 8-12 degrees and keeps 73-92 % of
the pixels; the published normals leave out 22-26 % themselves.
"""

from dataclasses import dataclass

import numpy as np

MAX_ROUGHNESS = 0.03  # root mean square departure from the tangent plane, as a fraction of q


@dataclass(frozen=True, kw_only=True, slots=True)
class Intrinsics:
    """A pinhole camera, in pixels; (cx, cy) counts from the centre of the first pixel."""

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, vertical: float, horizontal: float) -> "Intrinsics":
        """Of the same camera whose image has been resized by these factors."""
        return Intrinsics(
            fx=self.fx * horizontal,
            fy=self.fy * vertical,
            cx=(self.cx + 0.5) * horizontal - 0.5,
            cy=(self.cy + 0.5) * vertical - 0.5,
        )

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Give x as (1, W) and y as (H, 1): where each pixel's ray meets the plane Z = 1."""
        x = (np.arange(size[1], dtype=np.float32) - self.cx) / self.fx
        y = (np.arange(size[0], dtype=np.float32) - self.cy) / self.fy
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)


def normals_from_depth(
    depth: np.ndarray,
    intrinsics: Intrinsics,
    *,
    sigma: float,
    max_roughness: float = MAX_ROUGHNESS,
) -> np.ndarray:
    """float32 (H, W, 3) unit vectors facing the camera (x right, y down, z forward).

    depth: metres (H, W), NaN where unknown; there, and where the surface is rougher than
    `max_roughness`, normals are NaN. sigma: of the smoothing, in pixels; 0 = none.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1.0 / np.where(known, depth, 1.0), 0.0).astype(np.float32)
    smooth, square = inverse, np.square(inverse)
    if sigma > 0:
        smooth, square = gaussian_blur(inverse, sigma), gaussian_blur(square, sigma)
        if not known.all():
            # Normalised convolution: unknown pixels weigh nothing.
            weight = gaussian_blur(known.astype(np.float32), sigma)
            weight = np.maximum(weight, np.finfo(np.float32).eps)
            smooth, square = smooth / weight, square / weight
    down, right = np.gradient(smooth)
    variance = square - np.square(smooth)
    # What a tangent plane alone contributes to the variance in a Gaussian window.
    slope = sigma**2 * (np.square(down) + np.square(right))
    rough = np.maximum(variance - slope, 0) > np.square(max_roughness * smooth)

    x, y = intrinsics.rays(depth.shape)
    q_x, q_y = right * intrinsics.fx, down * intrinsics.fy
    normals = -np.stack([q_x, q_y, smooth - x * q_x - y * q_y], axis=2)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    unknown = ~known | rough | (length[..., 0] == 0)
    normals /= np.where(length == 0, 1, length)
    normals[unknown] = np.nan
    return normals.astype(np.float32)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """float32 (H, W); edges are continued. The kernel ends at three sigma."""
    radius = max(1, int(3 * sigma + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius, radius)
        padded = np.pad(image, padding, mode="edge")
        blurred, weighted = np.zeros_like(image), np.empty_like(image)
        for shift, weight in enumerate(kernel):
            window = [slice(None), slice(None)]
            window[axis] = slice(shift, shift + image.shape[axis])
            blurred += np.multiply(padded[tuple(window)], weight, out=weighted)
        image = blurred
    return image
