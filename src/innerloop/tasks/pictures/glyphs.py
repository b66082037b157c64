"""Few-shot recognition of printed characters: built in, drawn from the fonts that matplotlib carries."""

from __future__ import annotations

from innerloop.core import TaskFamily
from innerloop.data.glyph_fonts import SPLITS, TEST, TRAIN, VALID
from innerloop.data.glyph_images import glyph_images
from innerloop.tasks.pictures.few_shot import few_shot_family
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes


def glyphs(
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    rotations: bool = False,
    shuffled: bool = False,
    size: int = 28,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """About 3,500 characters of many scripts, 20 drawings each with random changes of form and stroke.

    Training: Latin, digits and signs of all kinds. Validation: Greek, Cyrillic, Canadian syllabics, Lao and
    others. Test: Arabic, Georgian, Armenian, Hebrew, N'Ko, Tifinagh (`innerloop.data.glyph_fonts.SPLITS`).
    Scripts are disjoint between the splits, and so are shapes: characters that look alike are one class,
    and a test class that looks like a training class is left out. The exact list depends on the versions of
    matplotlib and Pillow. The first use takes some ten seconds; the pictures are then kept in the user's
    cache folder.

    A nearest neighbour in pixels is right in about 63 % of 5-way 1-shot test queries.

    Args:
        ways, shots, queries: classes of a task; support and query drawings of each class.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        rotations: training characters turned by 90, 180 and 270 degrees are classes of their own. Many signs
            (arrows, circles) turn into one another or into themselves, so such tasks may hold classes that
            cannot be told apart.
        shuffled: examples in random order instead of class by class.
        size: height and width in pixels, 12 to 112.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.

    Returns:
        Pictures (1, size, size), 1 is ink and 0 the paper.

    Raises:
        InputError: more ways than classes, more examples than the 20 drawings, matplotlib's fonts missing.
        ConfigError: a size out of range or an unknown dtype.
    """
    options = dict(locals())
    images = glyph_images(size)
    splits = {
        split: images.in_groups([script for script, of in SPLITS.items() if of == split])
        for split in (TRAIN, VALID, TEST)
    }
    return few_shot_family(
        "glyphs",
        images,
        splits,
        Sizes(ways, shots, queries, train_ways, train_shots, train_queries),
        rotations=rotations,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        options=options,
    )
