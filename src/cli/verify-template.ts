// `post-invoke template --verify`: a SAM template with a function for each runtime and companion, to be deployed as it is.
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { version } from '../version.ts'
import { UsageError } from './errors.ts'
import { fromHere, inDist, layerZip } from './package-files.ts'
import { shell, yaml } from './quote.ts'

const RUNTIMES = ['nodejs22.x', 'nodejs24.x'] as const
const COMPANIONS = ['embedded', 'layer'] as const

const functions = RUNTIMES.flatMap(runtime => COMPANIONS.map(companion => ({ runtime, companion })))

const nameOf = ({ runtime, companion }: (typeof functions)[number]) =>
  `post-invoke-verify-${runtime.replace('.x', '')}-${companion}`

/** What `post-invoke verify` calls unless it is told something else. */
export const verifyFunctions: readonly string[] = functions.map(nameOf)

/** @throws UsageError where the folder has a template already. */
export const writeVerifyTemplate = (folder: string, force: boolean) => {
  const template = join(folder, 'template.yaml')
  if (existsSync(template) && !force)
    throw new UsageError(
      `Expected --out to name a new folder, but ${template} is there. Name another one, or replace it with --force.`,
    )
  mkdirSync(join(folder, 'function'), { recursive: true })
  copyFileSync(inDist('./cli/verify-function.js'), join(folder, 'function', 'index.mjs'))
  copyFileSync(layerZip, join(folder, 'layer.zip'))
  writeFileSync(template, verifyTemplate())
  console.log(`${fromHere(folder)}: a SAM template with ${functions.length} functions, which are there to be tried.
Next: cd ${shell(folder)} && sam deploy --guided --stack-name post-invoke-verify
Then: npx middy-post-invoke verify
And in the end: sam delete --stack-name post-invoke-verify`)
}

const verifyTemplate = () => `\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Description: Functions by which to see middy-post-invoke work in an account of one's own

Globals:
  Function:
    CodeUri: function
    Handler: index.handler
    Timeout: 60
    MemorySize: 512
    LoggingConfig:
      LogGroup: !Ref LogGroup
    Environment:
      Variables:
        # The log says which companion was chosen.
        POST_INVOKE_LOG_LEVEL: DEBUG

Resources:
  LogGroup:
    Type: AWS::Logs::LogGroup
    DeletionPolicy: Delete
    UpdateReplacePolicy: Delete
    Properties:
      LogGroupName: post-invoke-verify
      RetentionInDays: 7
  PostInvokeLayer:
    Type: AWS::Serverless::LayerVersion
    Properties:
      LayerName: post-invoke-verify
      Description: ${yaml(`middy-post-invoke ${version}`)}
      ContentUri: layer.zip
      RetentionPolicy: Delete
      CompatibleRuntimes:
        - nodejs22.x
        - nodejs24.x
${functions.map(functionResource).join('')}`

const functionResource = (given: (typeof functions)[number]) => `\
  ${given.runtime === 'nodejs22.x' ? 'Nodejs22' : 'Nodejs24'}${given.companion === 'layer' ? 'Layer' : 'Embedded'}:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: ${nameOf(given)}
      Runtime: ${given.runtime}
${given.companion === 'layer' ? '      Layers:\n        - !Ref PostInvokeLayer\n' : ''}`
