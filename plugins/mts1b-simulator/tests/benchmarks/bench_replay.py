"""Replay of recorded L2 depth without orders; run it by hand on a Binance combined-stream recording.

python tests/benchmarks/bench_replay.py FILE
"""
