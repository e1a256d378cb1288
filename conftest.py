"""What nbval's kernels inherit: pictures that do not move, and no progress bars."""

import os

os.environ["CLR_STATIC"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ.pop("CLR_IMAGES", None)
os.environ.pop("CLR_SCALE", None)
