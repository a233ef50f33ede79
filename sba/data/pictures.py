"""An image file as RGB of 8 bits, whatever it holds: grey, 16 bits, transparent parts."""

from typing import Any

import numpy as np

from sba.core.errors import DataError


def read_rgb(path: str) -> tuple[Any, tuple[str, ...]]:
    """Read an image file as a PIL image of mode RGB, and say what was changed on the way, in words: 16 bits are scaled to 8, grey
    becomes three equal channels, transparent parts are laid on white.

    Raises:
        DataError: its grey levels have no known range.
        OSError: the file cannot be read.
    """
    from PIL import Image

    with Image.open(path) as file:
        file.load()
        image: Any = file
        changed = []
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            levels = np.asarray(image)
            if image.mode == "F" or levels.min() < 0 or levels.max() > 0xFFFF:
                raise DataError(
                    f"dataset: {path} has grey levels of mode {image.mode!r}, whose range is not known; save it with 8 or 16 bits"
                )
            # 65535 is 255 · 257; halves cannot occur
            image = Image.fromarray(((levels.astype(np.int64) + 128) // 257).astype(np.uint8))
            changed.append("16 bits scaled to 8")
        if image.has_transparency_data and (clear := image.convert("RGBA")).getextrema()[3][0] < 255:
            image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            changed.append("transparent parts laid on white")
        elif image.mode in ("1", "L", "LA", "La"):
            changed.append("grey made RGB")
        return image.convert("RGB"), tuple(changed)
