// What the command line asks for.
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import type { CompanionName } from '../../test/support/run.ts'
import { type RuntimeClient, runtimeClients } from '../../test/support/runtime-clients.ts'

export type Settings = {
  /** Of each combination. */
  readonly invocations: number
  readonly freeze: boolean
  readonly faults: boolean
  readonly seed: number
  /** Whether the result goes into docs/evidence/reliability.md. */
  readonly write: boolean
  readonly combinations: readonly Combination[]
}

export type Combination = { readonly client: RuntimeClient; readonly companion: CompanionName }

export const usage = `node bench/soak.ts [options]

  --invocations n    of each combination of client and companion; default 10000
  --client name      built-in, ric3 or ric4; can be given again; default: all that are there
  --companion name   gate, internal or layer; can be given again; default: all that the client can have
  --freeze           stops the processes of an environment between invocations
  --faults           kills, exits, unhandled rejections, hanging handlers and bodies that break off
  --seed n           repeats a mixture; default: a new one
  --write            puts the result into docs/evidence/reliability.md
  --quick            a minute of all with faults, frozen`

const COMPANIONS = ['gate', 'internal', 'layer'] as const

export const readSettings = (argv: readonly string[]): Settings => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      invocations: { type: 'string', default: '10000' },
      client: { type: 'string', multiple: true, default: [] },
      companion: { type: 'string', multiple: true, default: [] },
      freeze: { type: 'boolean', default: false },
      faults: { type: 'boolean', default: false },
      seed: { type: 'string' },
      write: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
    },
  })
  const clients = chosen('client', values.client, runtimeClients, ({ kind }) => kind)
  const companions = chosen('companion', values.companion, COMPANIONS, name => name)
  const combinations = clients.flatMap(client =>
    companions.flatMap(companion => (companion === 'gate' && client.kind === 'ric3' ? [] : { client, companion })),
  )
  return {
    invocations: values.quick
      ? Math.ceil(QUICK_INVOCATIONS / combinations.length)
      : whole('invocations', values.invocations),
    freeze: values.freeze || values.quick,
    faults: values.faults || values.quick,
    seed: values.seed === undefined ? randomInt(2 ** 31) : whole('seed', values.seed),
    write: values.write,
    combinations,
  }
}

/** How such a soak is asked for, of whichever combinations. */
export const commandOf = ({ invocations, freeze, faults }: Settings): string =>
  ['npm run soak --', freeze ? '--freeze' : '', faults ? '--faults' : '', `--invocations ${invocations}`]
    .filter(part => part !== '')
    .join(' ')

const QUICK_INVOCATIONS = 2_000

const chosen = <Value>(
  option: string,
  names: readonly string[],
  values: readonly Value[],
  nameOf: (value: Value) => string,
): readonly Value[] => {
  const unknown = names.find(name => !values.some(value => nameOf(value) === name))
  if (unknown !== undefined) {
    throw new TypeError(
      `Expected --${option} to be among ${values.map(nameOf).join(', ')}, got ${JSON.stringify(unknown)}.\n\n${usage}`,
    )
  }
  return names.length === 0 ? values : values.filter(value => names.includes(nameOf(value)))
}

const whole = (option: string, given: string): number => {
  const value = Number(given)
  if (Number.isInteger(value) && value > 0) return value
  throw new TypeError(`Expected --${option} to be a whole number above 0, got ${JSON.stringify(given)}.\n\n${usage}`)
}
