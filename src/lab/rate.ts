// SPDX-License-Identifier: Apache-2.0

/** Bytes that arrived at one moment. Units: milliseconds of any clock. */
export interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

export interface Rate {
  readonly bytes: number;
  readonly seconds: number;
  readonly bitsPerSecond: number;
}

/** The rate after the first `skipMs`, in which a token bucket lets its burst through. 0 when too little arrived. Pure. */
export function measureRate(samples: readonly Sample[], skipMs: number): Rate {
  const startMs = (samples[0]?.atMs ?? 0) + skipMs;
  const counted = samples.filter(({ atMs }) => atMs > startMs);
  const endMs = counted.at(-1)?.atMs ?? startMs;
  const bytes = counted.reduce((sum, sample) => sum + sample.bytes, 0);
  const seconds = (endMs - startMs) / 1000;
  return { bytes, seconds, bitsPerSecond: seconds > 0 ? Math.round((bytes * 8) / seconds) : 0 };
}

/** `19.1 Mbit/s`. */
export function formatRate(bitsPerSecond: number): string {
  const [value, unit] =
    bitsPerSecond >= 1e9
      ? [bitsPerSecond / 1e9, "Gbit/s"]
      : bitsPerSecond >= 1e6
        ? [bitsPerSecond / 1e6, "Mbit/s"]
        : [bitsPerSecond / 1e3, "kbit/s"];
  return `${value.toFixed(1)} ${unit}`;
}
