// An Extensions API that does not answer as it should, and names that are taken.
import { cpSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { makeFolder } from '../support/fault-layers.ts'
import { type Fault, type Given, otherLayer } from '../support/fault-observe.ts'
import { type Refusal, type Shape, startProxy } from '../support/fault-proxy.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import { layer, type Run } from '../support/run.ts'

/** The first event is asked for at the end of init, the second one after the invocation. */
const refuseNext = (refusal: Refusal, counts: readonly number[]) => async (given: Given) =>
  (
    await startProxy(given, ({ path, count }) =>
      path === 'event/next' && counts.includes(count) ? refusal : undefined,
    )
  ).start

const refuseRegister =
  (refusal: Refusal, most = Number.POSITIVE_INFINITY) =>
  async (given: Given) =>
    (await startProxy(given, ({ path, count }) => (path === 'register' && count <= most ? refusal : undefined))).start

/**
 * An internal extension knows that it has events again when the first one comes. Whether the handler of that invocation
 * begins before or after, and so whether its tasks are awaited before its answer, is a matter of chance.
 */
const askAgain = async ({ sandbox }: Run) => {
  const { status } = await sandbox.invoke({})
  if (status !== 'success') throw new Error(`the invocation after the refusal: ${status}`)
}

const next: Fault[] = [
  { injected: 'The next event is answered with 500, once', start: refuseNext({ status: 500 }, [2]) },
  { injected: 'The next event is answered with 403, three times', start: refuseNext({ status: 403 }, [2, 3, 4]) },
  {
    injected: 'The next event is answered with what is no JSON',
    start: refuseNext({ status: 200, body: '<html>' }, [2]),
  },
  {
    injected: 'The next event is of an unknown kind',
    start: refuseNext({ status: 200, body: '{"eventType":"THAW"}' }, [2]),
  },
  { injected: 'The connection for the next event is cut, once', start: refuseNext('cut', [2]) },
  { injected: 'Half of the next event comes, and no more', start: refuseNext('half', [2]) },
].map(fault => ({ ...fault, on: on.extensions, after: askAgain }))

const shaped = (path: string, shape: Shape) => async (given: Given) =>
  (await startProxy(given, call => (call.path === path ? shape : undefined))).start

const shapes: Fault[] = [
  { injected: 'Each event comes in chunks', start: shaped('event/next', 'chunked') },
  { injected: 'Each event comes in pieces, with pauses', start: shaped('event/next', 'in pieces') },
  { injected: 'The connection is closed after each event', start: shaped('event/next', 'the last') },
  { injected: 'The registration is answered in chunks', start: shaped('register', 'chunked') },
  { injected: 'The registration is answered in pieces, with pauses', start: shaped('register', 'in pieces') },
  { injected: 'The connection is closed after the registration', start: shaped('register', 'the last') },
].map(fault => ({ ...fault, on: on.extensions }))

const registrations: Omit<Fault, 'on'>[] = [
  { injected: 'The registration is answered with 403', start: refuseRegister({ status: 403 }) },
  { injected: 'The registration is answered with 500', start: refuseRegister({ status: 500 }) },
  {
    injected: 'The registration is answered without an identifier',
    start: refuseRegister({ status: 200, body: '{}' }),
  },
  { injected: 'The registration is never answered', start: refuseRegister('silence') },
  { injected: "The registration's connection is cut", start: refuseRegister('cut') },
  { injected: 'Half of an answer to the registration comes, and no more', start: refuseRegister('half') },
]

/** Nine of somebody else's and ours are ten, as many as there may be. */
const others = (given: Given, count: number): string => {
  const folder = makeFolder(given.cleanUp)
  cpSync(otherLayer, folder, { recursive: true })
  const file = join(folder, 'extensions', 'bash-extension')
  for (let number = 1; number < count; number++) cpSync(file, `${file}-${number}`)
  return folder
}

describeFaults('api', [
  ...next,
  ...shapes,
  ...registrations.map(fault => ({ ...fault, on: on.internal })),
  {
    injected: 'The registration for SIGTERM is answered with 403, with `shutdown: true`',
    on: on.gate,
    start: async given => ({
      ...(await refuseRegister({ status: 403 })(given)),
      environment: { FAULTS_OPTIONS: '{"shutdown":true}' },
    }),
  },
  {
    injected: 'The registration is answered with 500, once',
    on: on.layer,
    start: refuseRegister({ status: 500 }, 1),
  },
  {
    injected: 'The registration is answered with 403',
    on: on.layer,
    start: refuseRegister({ status: 403 }),
    hasControl: true,
  },
  {
    injected: 'An internal extension of another module has the name',
    on: on.internal,
    start: () => ({ environment: { FAULTS_FIRST: './takes-the-name.mjs' } }),
  },
  {
    injected: 'An external extension has the name',
    on: on.internal,
    start: ({ cleanUp }) => {
      const folder = makeFolder(cleanUp)
      cpSync(otherLayer, folder, { recursive: true })
      renameSync(join(folder, 'extensions', 'bash-extension'), join(folder, 'extensions', 'middy-post-invoke'))
      return { layers: [folder] }
    },
  },
  {
    injected: 'Ten other extensions are there, as many as Lambda allows',
    on: on.internal,
    start: given => ({ layers: [others(given, 10)] }),
  },
  {
    injected: 'Nine other extensions are there',
    on: on.layer,
    start: given => ({ layers: [layer, others(given, 9)] }),
  },
])
