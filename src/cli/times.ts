// The times of many invocations, in a table.
import type { InvocationRun } from './run.ts'
import { duration } from './terminal.ts'

export const summarizeTimes = (runs: readonly InvocationRun[]): string => {
  const rows = [
    ['', 'min', 'median', 'max'],
    ['response out', ...spread(runs.map(({ answeredAt }) => answeredAt))],
    ['released', ...spread(runs.map(({ releasedAt }) => releasedAt))],
  ]
  return rows
    .map(row => `  ${row.map((cell, index) => (index === 0 ? cell.padEnd(12) : cell.padStart(12))).join('')}`)
    .join('\n')
}

const spread = (times: readonly number[]): string[] => {
  const sorted = times.toSorted((one, other) => one - other)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0
  return [at(0), at(0.5), at(1)].map(duration)
}
