// Files that a command is to write: their folders are made, and what cannot be is said before anything else is done.
import { accessSync, constants, mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { UsageError } from './errors.ts'

/**
 * Makes the folder of a file that is to be written.
 *
 * @throws UsageError where a folder has its name, and the system's error where it cannot be written.
 */
export const prepareFile = (option: string, path: string): void => {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw new UsageError(`Expected ${option} to be a file, but ${path} is a folder.`)
  const folder = dirname(path)
  mkdirSync(folder, { recursive: true })
  accessSync(folder, constants.W_OK)
}
