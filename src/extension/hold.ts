// The hold: an environment stays awake as long as an extension that got INVOKE does not ask for its next event. This is
// the loop that both kinds of extension run, the layer's companion and the internal one.
import type { Log } from '../log.ts'
import { type ExtensionEvent, type ExtensionsApi, ExtensionsApiError, LONGEST_INVOCATION_MS } from './extensions-api.ts'
import { forgetOldest } from './forget-oldest.ts'

/** The hold ends this long before the function's deadline, whatever happens: past the deadline a good answer is a timeout. */
export const RELEASE_MARGIN_MS = 100

/** How many request ids are remembered: of a "settled" that came before its INVOKE, and of holds given up without one. */
const REMEMBERED = 16

const RETRY_MS = { first: 50, longest: 2_000 }

/** Which requests are held, and which have settled already. One at a time: Lambda sends no second INVOKE meanwhile. */
export class Holds {
  #settledEarly = new Set<string>()
  #givenUp = new Set<string>()
  #held: { requestId: string; release: (how: Release) => void } | undefined

  get held(): string | undefined {
    return this.#held?.requestId
  }

  /** Resolves when `requestId` settles, or the cap is reached, or {@link Holds.release} is called. */
  hold(requestId: string, deadline: number, ref = true): Promise<Release> {
    // Lambda's retries carry the same request id: what is remembered of an id ends when its next invocation begins.
    this.#givenUp.delete(requestId)
    if (this.#settledEarly.delete(requestId)) return Promise.resolve('settled')
    return new Promise(resolve => {
      const remaining = Math.min(Math.max(0, deadline - RELEASE_MARGIN_MS - Date.now()), LONGEST_INVOCATION_MS)
      const cap = setTimeout(() => this.release('capped'), remaining)
      if (!ref) cap.unref()
      this.#held = {
        requestId,
        release: how => {
          clearTimeout(cap)
          this.#held = undefined
          // Its "settled" may still come, too late. It must not be taken for that of a retry.
          if (how !== 'settled') remember(this.#givenUp, requestId)
          resolve(how)
        },
      }
    })
  }

  settle(requestId: string): void {
    if (this.#held?.requestId === requestId) this.#held.release('settled')
    else if (!this.#givenUp.delete(requestId)) remember(this.#settledEarly, requestId)
  }

  release(how: Release): void {
    this.#held?.release(how)
  }
}

/** `settled`: all is done. `capped`: time was up. `unattended`: no process takes part that could ever settle it. */
export type Release = 'settled' | 'capped' | 'unattended'

const remember = (ids: Set<string>, id: string) => {
  ids.add(id)
  forgetOldest(ids, REMEMBERED)
}

export type HoldLoop = {
  api: Pick<ExtensionsApi, 'next'>
  identifier: string
  log: Log
  /** `false` where a wait of ours may not keep the process running. */
  ref: boolean
  /** Called with each INVOKE; the next event is asked for once it resolves. */
  onInvoke(event: ExtensionEvent & { type: 'INVOKE' }): Promise<void>
  /** Called when events can no longer be had, and when they can again. */
  onConnection?(works: boolean): void
}

/**
 * Asks for events until SHUTDOWN. Never throws: an extension that exits is a crash for Lambda, and one that stops asking
 * stops the environment, so every failure is logged once and asked again, at growing intervals.
 *
 * @returns the SHUTDOWN event.
 */
export const runHoldLoop = async (loop: HoldLoop): Promise<ExtensionEvent & { type: 'SHUTDOWN' }> => {
  let retryIn = RETRY_MS.first
  for (;;) {
    try {
      const event = await loop.api.next(loop.identifier)
      if (retryIn !== RETRY_MS.first) loop.onConnection?.(true)
      retryIn = RETRY_MS.first
      if (event.type === 'SHUTDOWN') return event
      if (event.type === 'INVOKE') await loop.onInvoke(event)
    } catch (error) {
      if (retryIn === RETRY_MS.first) {
        loop.onConnection?.(false)
        const refused = error instanceof ExtensionsApiError && error.status === 403
        loop.log.error(
          `${refused ? 'Lambda refuses us the next event' : 'The next event cannot be had'}, asking again`,
          error,
        )
      }
      await sleep(retryIn, loop.ref)
      retryIn = Math.min(retryIn * 2, RETRY_MS.longest)
    }
  }
}

const sleep = (milliseconds: number, ref: boolean) =>
  new Promise<void>(resolve => {
    const timer = setTimeout(resolve, milliseconds)
    if (!ref) timer.unref()
  })
