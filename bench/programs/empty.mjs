// The floor for an import: a module that only imports what Middy has loaded already.
import { validateOptions } from '@middy/util'

export default () => validateOptions
