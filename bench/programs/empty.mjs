// The floor for an import: a module that only imports what Middy has loaded already.
import middy from '@middy/core'

export default () => middy
