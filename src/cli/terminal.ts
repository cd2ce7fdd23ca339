// The terminal: lines, and below them, where there is a terminal, one line that says what goes on at the moment.
import { WriteStream } from 'node:tty'
import { stripVTControlCharacters, styleText } from 'node:util'

export type Style = Parameters<typeof styleText>[0]

/** FORCE_COLOR and NO_COLOR have their say. util.styleText asks for them by itself only from Node.js 22.13 on. */
const hasColours =
  (process.stdout.isTTY === true || process.env.FORCE_COLOR !== undefined) && WriteStream.prototype.getColorDepth() > 2

/** Styled where the standard output is a terminal. */
export const styled = (style: Style, text: string): string =>
  hasColours ? styleText(style, text, { validateStream: false }) : text

export type Terminal = {
  readonly width: number
  line(text: string): void
  /** What goes on at the moment, or nothing. Without a terminal it is written as a line, now and then. */
  status(text: string | undefined): void
  /** Takes the status away, for good. */
  end(): void
}

const REFRESH_MS = 200
/** How often a log, which nobody can rewrite, is told that it still goes on. */
const REMINDER_MS = 10_000
const DEFAULT_WIDTH = 100

/** @param currentStatus - Asked for the status again and again; it may count the time. */
export const createTerminal = (
  currentStatus: () => string | undefined,
  out: NodeJS.WriteStream = process.stdout,
): Terminal => {
  const isLive = out.isTTY === true && process.env.TERM !== 'dumb'
  let shown: string | undefined
  const width = () => Math.max(40, out.columns || DEFAULT_WIDTH)

  const clear = () => {
    if (shown !== undefined) out.write('\r\u001b[2K')
    shown = undefined
  }
  const show = (text: string | undefined) => {
    if (!isLive) {
      if (text !== undefined) out.write(`${text}\n`)
      return
    }
    if (text === shown) return
    clear()
    if (text !== undefined) out.write(styled('gray', cut(text, width() - 1)))
    shown = text
  }
  const timer = setInterval(() => show(currentStatus()), isLive ? REFRESH_MS : REMINDER_MS)
  timer.unref()

  return {
    get width() {
      return width()
    },
    line(text) {
      clear()
      out.write(`${text}\n`)
      if (!isLive) timer.refresh()
    },
    status(text) {
      if (isLive) show(text)
    },
    end() {
      clearInterval(timer)
      clear()
    },
  }
}

/** On one line, without what would move the cursor or change colours, and no longer than this. */
export const cut = (text: string, length: number): string => {
  const line = stripVTControlCharacters(text).replaceAll(/\p{Cc}+/gu, ' ')
  return line.length > length ? `${line.slice(0, Math.max(0, length - 1))}…` : line
}

/** `43.4 ms`, `2.3 s`, `1 min 20 s`. */
export const duration = (milliseconds: number): string => {
  if (milliseconds < 1_000) return `${milliseconds.toFixed(1)} ms`
  if (milliseconds < 60_000) return `${(milliseconds / 1_000).toFixed(2)} s`
  const seconds = Math.round(milliseconds / 1_000)
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}
