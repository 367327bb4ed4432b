"""The fast path: common packets are written and parsed directly, without aioquic."""
