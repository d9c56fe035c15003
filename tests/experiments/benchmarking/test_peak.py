import time

import torch

from regioncap.experiments.benchmarking.measure import DEVICE
from regioncap.experiments.benchmarking.peak import matmul_peak


def test_the_peak_is_at_least_a_plain_product_and_not_many_times_it() -> None:
    threads = torch.get_num_threads()
    peak = matmul_peak()
    assert torch.get_num_threads() == threads
    assert matmul_peak() is peak  # measured once
    if DEVICE == "cpu":
        torch.set_num_threads(1)
        a = torch.rand(768, 768)
        seconds = []
        for _ in range(5):
            started = time.process_time()
            a @ a
            seconds.append(time.process_time() - started)
        torch.set_num_threads(threads)
        own = 2 * 768**3 / min(seconds)
        assert 0.8 * own < peak < 5 * own
