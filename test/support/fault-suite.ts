// A test file of faults: one test a row, for each fault and each combination of runtime client and companion.
import { afterAll, describe, expect, it } from '@jest/globals'
import { type Combination, endShared, type Fault, observe, type Sight } from './fault-observe.ts'
import { keyOf, type Row, readRows, writeRows, writesDocs } from './fault-table.ts'
import { realClient } from './require-runtime-clients.ts'

const ric3 = realClient('ric3')
const ric4 = realClient('ric4')

const all: readonly Combination[] = [
  { client: ric3, companion: 'layer' },
  { client: ric3, companion: 'internal' },
  { client: ric4, companion: 'layer' },
  { client: ric4, companion: 'internal' },
  { client: ric4, companion: 'gate' },
]

/** Where a fault is injected. */
export const on = {
  all,
  layer: all.filter(({ companion }) => companion === 'layer'),
  internal: all.filter(({ companion }) => companion === 'internal'),
  gate: all.filter(({ companion }) => companion === 'gate'),
  embedded: all.filter(({ companion }) => companion !== 'layer'),
  extensions: all.filter(({ companion }) => companion !== 'gate'),
}

const ROW_MS = 240_000

export const describeFaults = (table: string, faults: readonly Fault[]): void => {
  const keys = faults.flatMap(fault => fault.on.map(combination => keyOf(place(fault, combination))))
  const ran: Row[] = []
  /** Without the package the companion makes no difference. */
  const controls = new Map<string, Promise<Sight>>()
  const observeControl = (fault: Fault, combination: Combination): Promise<Sight> => {
    const key = `${fault.injected}, ${combination.client.name}`
    const control = controls.get(key) ?? observe(fault, combination, true)
    controls.set(key, control)
    return control
  }

  describe(table, () => {
    for (const fault of faults) {
      describe(fault.injected, () => {
        for (const combination of fault.on) {
          const test = fault.isSkipped ? it.skip : it
          test(
            `${combination.client.name}, ${combination.companion}`,
            async () => {
              const sight = await observe(fault, combination, false)
              const control = fault.hasControl ? await observeControl(fault, combination) : undefined
              const row = { ...place(fault, combination), ...describeSight(fault, sight, control) }
              expect({ row, unexcused: unexcused(fault, sight, control) }).toEqual({ row, unexcused: [] })
              ran.push(row)
              if (!writesDocs) expect(row).toEqual(readRows(table).find(other => keyOf(other) === keyOf(row)))
            },
            ROW_MS,
          )
        }
      })
    }

    afterAll(async () => {
      await endShared()
      if (writesDocs) writeRows(table, keys, ran)
    }, ROW_MS)

    if (!writesDocs) {
      it('has these rows in the table, and no others', () => {
        expect(readRows(table).map(keyOf)).toEqual(keys)
      })
    }
  })
}

const place = ({ injected }: Fault, { client, companion }: Combination) => ({
  injected,
  client: client.name.replace('aws-lambda-ric', 'RIC'),
  companion: companion === 'internal' ? 'internal extension' : companion,
})

const describeSight = (fault: Fault, sight: Sight, control: Sight | undefined) => {
  const { caller, tasks, logged, next, outcome, harms } = sight
  const isAsWithout = harms.length > 0 && control !== undefined
  const verdict =
    fault.isHeldOnce && harms.length > 0
      ? `held once: until 100 ms before the deadline; ${outcome}`
      : isAsWithout
        ? `as without: there the caller gets ${control.caller}; tasks: ${control.tasksInShort}; next invocation: ${control.next}`
        : outcome
  return { caller, tasks, logged, next, verdict }
}

/** The harms that cannot be laid at the door of the fault alone. */
const unexcused = (fault: Fault, sight: Sight, control: Sight | undefined) =>
  sight.harms.filter(harm => {
    if (fault.isHeldOnce && harm === 'a disturbed environment' && !sight.isNextDisturbed) return false
    return !control?.harms.includes(harm)
  })
