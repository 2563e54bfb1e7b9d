"""Computes surface normals from a depth map, for data sets that store none.

A plane n . P = c seen by a pinhole camera has inverse depth q = 1/Z affine in the pixel, so the
normal follows from q's gradient in closed form:
    n  is parallel to  -(q_x, q_y, q - x q_x - y q_y),
with x, y the ray's coordinates at Z = 1 and q_x, q_y the derivatives along them. With that sign
the normal faces the camera everywhere (n . ray = -q < 0).

Depth in steps has useless gradients, so q is first smoothed by a Gaussian. Across an occlusion
the smoothed surface is not real: pixels where q within the window departs from its tangent
plane by more than `MAX_ROUGHNESS` of itself are left unknown. On the four NYU-v2 frames whose
normals are published this reduces the mean error from 14-21 to 8-12 degrees and keeps 73-92 % of
the pixels; the published normals leave out 22-26 %.
"""

from dataclasses import dataclass

import numpy as np

MAX_ROUGHNESS = 0.03  # root mean square departure from the tangent plane, as a fraction of q


@dataclass(frozen=True, kw_only=True, slots=True)
class Intrinsics:
    """Describes a pinhole camera in pixels; (cx, cy) counts from the first pixel's centre."""

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, vertical: float, horizontal: float) -> "Intrinsics":
        """Return the intrinsics after the image has been resized by these factors."""
        return Intrinsics(
            fx=self.fx * horizontal,
            fy=self.fy * vertical,
            cx=(self.cx + 0.5) * horizontal - 0.5,
            cy=(self.cy + 0.5) * vertical - 0.5,
        )

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return x (1, W) and y (H, 1), where each pixel's ray meets the plane Z = 1."""
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
    """Return float32 (H, W, 3) unit vectors facing the camera (x right, y down, z forward).

    depth: metres (H, W), NaN where unknown. Normals are NaN there and where the surface is
    rougher than `max_roughness`. sigma: width of the smoothing in pixels; 0 for none.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1.0 / np.where(known, depth, 1.0), 0.0).astype(np.float32)
    smooth, square = inverse, np.square(inverse)
    if sigma > 0:
        smooth, square = gaussian_blur(inverse, sigma), gaussian_blur(square, sigma)
        if not known.all():
            # Normalised convolution: unknown pixels have weight 0.
            weight = gaussian_blur(known.astype(np.float32), sigma)
            weight = np.maximum(weight, np.finfo(np.float32).eps)
            smooth, square = smooth / weight, square / weight
    down, right = np.gradient(smooth)
    variance = square - np.square(smooth)
    # The variance in a Gaussian window that comes from a tangent plane alone.
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
    """Return a blurred float32 (H, W); edges are continued and the kernel ends at three sigma."""
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
