import { describe } from '@jest/globals'
import { describeFirstUse } from '../support/first-use-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

describe('a first use', () => {
  describeFirstUse(realClient('ric3'))
  describeFirstUse(realClient('ric4'))
})
