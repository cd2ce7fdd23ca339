// The layer's end of the pipe, played here.
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipePath } from '../../src/middleware/companion-pipe.ts'

export type PipeReader = {
  readonly folder: string
  readonly path: string
  /** What lines have been written since it was asked last. */
  lines(): string[]
  /** The two lines of last words, or nothing. */
  lastWords(): string
  /** As when the companion's process dies. */
  close(): void
}

export const temporaryFolder = () => mkdtempSync(join(tmpdir(), 'post-invoke-'))

/** The pipe with a reader, as the layer makes it before the runtime starts. */
export const startPipeReader = (runtimeApi: string, folder = temporaryFolder(), protocol?: number): PipeReader => {
  const path = pipePath(folder, runtimeApi, protocol)
  execFileSync('mkfifo', ['-m', '600', path])
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  let isOpen = true
  let rest = ''
  return {
    folder,
    path,
    lines() {
      const buffer = Buffer.alloc(65_536)
      let text = rest
      for (;;) {
        try {
          const length = readSync(fd, buffer)
          if (length === 0) break
          text += buffer.toString('utf8', 0, length)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'EAGAIN') break
          throw error
        }
      }
      const lines = text.split('\n')
      rest = lines.pop() as string
      return lines
    },
    lastWords() {
      const [gone, late] = readFileSync(`${path}.tasks`, 'utf8').split('\n')
      return gone || late ? `${gone}\n${late}\n` : ''
    },
    close() {
      if (isOpen) closeSync(fd)
      isOpen = false
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
