import { readFileSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const { childText } = await import('./scripts/companion-text.ts')
const names =
  'isHeld isGated isGate isExternal keepsAlive abortAt letGoAt deadline onChange sums openRequests isOpen isSettled drainBeforeAnswer leave drainIn dropOldest unfinished holds expectHandedOff wouldLose bringsSigterm hasGate tellsEnds firstUsedIn mayCrash isBusy willTell onBrokenGate onEnd hasBegun isArmed disarm isBroken requestId invocation outer isRun remainingTime companion runtimeClient asyncContext onDefer streaming handedOff canCarry carried onSettled takeAll label index isLate promise hasSettled needsEnd withoutCompanion current invocationOf isMainThread isAlone variables scopes streams accepted forget getRemainingTimeInMillis_'
    .split(' ')
    .filter(n => !['requestId', 'carried', 'index', 'promise', 'deadline', 'current', 'companion'].includes(n))
const [entry] = process.argv.slice(2)
const r = await build({
  stdin: { contents: entry, resolveDir: process.cwd(), loader: 'ts' },
  mangleProps: new RegExp('^(' + names.join('|') + ')$'),
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  write: false,
  external: ['@middy/core'],
  plugins: [
    {
      name: 'sh',
      setup(b) {
        b.onLoad({ filter: /post-invoke\.sh$/ }, ({ path }) => ({
          contents: childText(readFileSync(path, 'utf8')),
          loader: 'text',
        }))
      },
    },
  ],
})
const b = r.outputFiles[0].contents
console.log(b.length, gzipSync(b).length)
