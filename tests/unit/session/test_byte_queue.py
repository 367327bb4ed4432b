"""A queue of bytes gives what was put in, in whatever pieces."""

from hypothesis import given
from hypothesis import strategies as st

from lane.session.byte_queue import ByteQueue


@given(st.lists(st.integers(0, 9000), max_size=40), st.data())
def test_a_queue_gives_what_was_put_in(sizes, data):
    queue, put, got = ByteQueue(), bytearray(), bytearray()
    for size in sizes:
        if size:
            chunk = bytes((len(put) + n) % 251 for n in range(size))
            queue.append(chunk)
            put += chunk
        if queue.size and data.draw(st.booleans()):
            got += queue.take(data.draw(st.integers(1, 12_000)))
        if data.draw(st.booleans()):
            skipped = data.draw(st.integers(0, queue.size))
            queue.drop(skipped)
            got += put[len(got) : len(got) + skipped]
        assert queue.size == len(put) - len(got)
    while queue.size:
        got += queue.take(5000)
    assert got == put
