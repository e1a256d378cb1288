"""Cyclical learning rates: policies, an LR range test, and Caffe's CIFAR-10 nets, on PyTorch.

Every public name is listed in `__init__.pyi` and imported when it is first used: `import clr` itself imports no library
that it would have to wait for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
