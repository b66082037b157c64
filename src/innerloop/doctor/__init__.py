"""Is the meta-gradient right, on this very model? See `check.check_meta_gradient`."""

from innerloop.doctor.check import as_batch, check_meta_gradient, naive_vmap_error
from innerloop.doctor.report import Diagnosis

__all__ = ["Diagnosis", "as_batch", "check_meta_gradient", "naive_vmap_error"]
