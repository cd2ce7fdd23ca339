// What `post-invoke verify` makes of a log. test/runtime-clients/verify.test.ts and test/rie/verify.test.ts run it.
import { describe, expect, it } from '@jest/globals'
import { faultsOf, readReport } from '../../src/cli/verify.ts'
import { fromLine, toLine } from '../../src/cli/verify-messages.ts'

describe('command line: verify', () => {
  it.each([
    ['REPORT RequestId: a-b\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB', 12.34],
    ['REPORT RequestId: a-b\tInit Duration: 99.99 ms\tDuration: 12.34 ms\tBilled Duration: 13 ms', 12.34],
    ['REPORT RequestId: a-b\tDuration: 5001.00 ms\tBilled Duration: 5200 ms\tInit Duration: 199.00 ms\t\n', 5001],
    ['{"time":"x","type":"platform.report","record":{"requestId":"a-b","metrics":{"durationMs":12.34}}}', 12.34],
    ['{"type":"platform.report"', undefined],
    ['END RequestId: a-b', undefined],
    ['a line of the function: REPORT RequestId: a-b\tDuration: 1 ms', undefined],
  ])('reads %j', (message, duration) => {
    expect(readReport(message)).toBe(duration)
  })

  it('reads back what the function writes, whatever stands around it', () => {
    const moment = { requestId: 'a-b', what: 'first ends', at: 12.5 }
    const line = toLine(moment)
    for (const text of [
      line,
      `2026-01-01T00:00:00Z\ta-b\tINFO\t${line}\n`,
      JSON.stringify({ level: 'INFO', message: line }),
    ])
      expect(fromLine(text)).toEqual(moment)
    expect(fromLine('another line')).toBeUndefined()
  })

  const good = { answeredAfter: 900, tasksStarted: 2, tasksEnded: 5_000, lasted: 5_001 }

  it.each([
    ['nothing', good, []],
    ['no task', { answeredAfter: 900, lasted: 3 }, ['no task has started']],
    ['a task without an end', { ...good, tasksEnded: undefined }, ['not every task has ended']],
    ['a caller who waited', { ...good, answeredAfter: 5_100 }, ['the caller had its answer after 5100 ms']],
    ['no report', { ...good, lasted: undefined }, ['no REPORT']],
    ['an invocation that was over before', { ...good, lasted: 20 }, ['the environment was not held']],
  ])('finds %s', (_, measured, parts) => {
    const given = Object.fromEntries(Object.entries(measured).filter(([, value]) => value !== undefined))
    const faults = faultsOf(given as typeof good)
    expect(faults).toEqual(parts.map(part => expect.stringContaining(part)))
  })
})
