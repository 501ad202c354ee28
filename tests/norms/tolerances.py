"""How close a layer must come to the float64 reference, by dtype of its input."""

import torch

# float64: some hundred operations of 1e-16 each. float32: sums of up to 1e4 values around 1.
# Half precisions: statistics are float32, so only the rounding of input and output counts: half a unit in
# the last of 11 (float16) or 8 (bfloat16) bits, for outputs up to 8.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 8 * 2.0**-11,
    torch.bfloat16: 8 * 2.0**-8,
}
