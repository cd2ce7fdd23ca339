#!/usr/bin/env node
// The command line: `npx middy-post-invoke …`, or `post-invoke …` where the package is installed.
import { Command, CommanderError } from 'commander'
import { addDoctorCommand } from './cli/doctor.ts'
import { CommandError, EXIT_USAGE, explainUnexpected, Interrupted, UsageError } from './cli/errors.ts'
import { addInvokeCommand } from './cli/invoke.ts'
import { addLayerCommand } from './cli/layer.ts'
import { addTemplateCommand } from './cli/sam-template.ts'
import { addVerifyCommand } from './cli/verify.ts'
import { version } from './version.ts'

const main = async (argv: readonly string[]): Promise<number> => {
  const program = new Command('post-invoke')
    .description('Work after the response on AWS Lambda: the layer, and a local Lambda for your own handler.')
    .version(version, '-v, --version', 'Print the version of this package.')
    .helpOption('-h, --help', 'Print this help.')
    .helpCommand('help [command]', 'print the help of a command')
    .showHelpAfterError('Run it with --help to see what there is.')
    .addHelpText('after', EXIT_CODES)
  let code = 0
  const finish = (ended: number) => {
    code = ended
  }
  addInvokeCommand(program, finish)
  addDoctorCommand(program, finish)
  addLayerCommand(program, finish)
  addTemplateCommand(program, finish)
  addVerifyCommand(program, finish)
  for (const command of [program, ...program.commands])
    command.exitOverride().configureHelp({ showGlobalOptions: false })
  try {
    await program.parseAsync(argv[0] === '-V' ? ['-v'] : argv, { from: 'user' })
    return code
  } catch (error) {
    return explain(error)
  }
}

const EXIT_CODES = `
Exit codes:
  0  it worked
  1  the handler or one of its tasks failed, a problem was found, or something could not be written
  2  wrong usage`

/** Commander has printed its own errors, and help, by now. */
const explain = (error: unknown): number => {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE
  if (error instanceof Interrupted) return error.exitCode
  if (error instanceof UsageError || error instanceof CommandError) {
    console.error(`post-invoke: ${error.message}`)
    return error.exitCode
  }
  console.error(`post-invoke: ${explainUnexpected(error)}`)
  return 1
}

// Whoever reads the output may stop early: `post-invoke layer | head`.
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
  process.exit()
})

process.exitCode = await main(process.argv.slice(2))
