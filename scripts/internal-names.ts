// Members of objects that no user of the package ever sees. Minifiers shorten variables, but no members: they cannot know who
// else reads one. So the build does it for these. Each is to be a word that neither the public API nor Node.js has (a test
// looks).
export const names = [
  'abortAt',
  'accepted',
  'asyncContext',
  'bringsSigterm',
  'canCarry',
  'dropOldest',
  'drainBeforeAnswer',
  'drainWithin',
  'expectHandedOff',
  'firstUsedIn',
  'guests',
  'handedOff',
  'hasBegun',
  'hasGate',
  'hasLayer',
  'hasSettled',
  'holds',
  'invocationOf',
  'isAlone',
  'isArmed',
  'isBroken',
  'isBusy',
  'isTheLayer',
  'isGate',
  'isGated',
  'isHeld',
  'isInHandler',
  'isLate',
  'isOfResource',
  'isOpen',
  'isRun',
  'isSettled',
  'keepsAlive',
  'letGoAt',
  'mayCrash',
  'needsEnd',
  'onBrokenGate',
  'onChange',
  'onDefer',
  'onEnd',
  'openInvocations',
  'afterSettled',
  'remainingTime',
  'takeAll',
  'tellsEnds',
  'tellUnfinished',
  'unfinished',
  'willTell',
  'wouldLose',
] as const

/** For esbuild's `mangleProps` and `mangleCache`: by a table, for it looks at each entry by itself. */
export const internalNames = {
  mangleProps: new RegExp(`^(?:${names.join('|')})$`),
  mangleCache: Object.fromEntries(names.map((name, index) => [name, `_${letter(index)}`])),
}

function letter(index: number): string {
  return 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'.charAt(index) || index.toString(36)
}
