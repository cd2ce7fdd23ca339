import { describe } from '@jest/globals'
import { describeFirstUse } from '../support/first-use-suite.ts'
import { builtInClient } from '../support/runtime-clients.ts'

describe('a first use', () => describeFirstUse(builtInClient))

describe('a first use, under a client that tells nothing', () =>
  describeFirstUse(builtInClient, { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' }))
