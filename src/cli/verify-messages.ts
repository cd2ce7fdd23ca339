// What the function for `post-invoke verify` and the command say to each other. It stands on both sides.

export type VerifyEvent = {
  /** How long its tasks take together. */
  readonly milliseconds?: number
}

export type VerifyAnswer = {
  readonly verify: 1
  readonly requestId: string
  /** Of this package. */
  readonly version: string
  readonly node: string
  readonly client: string
}

/** A line of its log. `at`: milliseconds since the handler was called, on the function's own clock. */
export type VerifyMoment = { readonly requestId: string; readonly what: string; readonly at: number }

const MARK = 'post-invoke-verify '

export const toLine = ({ requestId, what, at }: VerifyMoment): string => `${MARK}${requestId} ${at.toFixed(3)} ${what}`

/** Whatever stands around it: the runtime client's own words, or JSON. */
export const fromLine = (text: string): VerifyMoment | undefined => {
  const [, requestId = '', at, what = ''] = /post-invoke-verify (\S+) ([\d.]+) (\w+(?: \w+)?)/.exec(text) ?? []
  return at === undefined ? undefined : { requestId, what, at: Number(at) }
}
