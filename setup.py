"""The part of lane that is compiled, where there are a compiler and the headers of Python and OpenSSL.

The rest of the packaging is in setup.cfg, which knows no extensions. Without a compiler the installation goes
on, and Python does the same work (plugins/lane_quic/fastpath/protection.py).
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "lane_quic.fastpath.native",
            ["plugins/lane_quic/fastpath/native.c"],
            libraries=["crypto"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
