/**
 * Brings what runs handed-off work in the function's own process: import it once, for its effect, where no layer runs that
 * work. It adds about 750 kB to a bundle and exports nothing.
 *
 * @packageDocumentation
 */
import { provideRunner } from './provide-runner.ts'

provideRunner()
