// The workflows and the script that publishes the layer, read by the tools that know them, and run with an AWS CLI that
// only writes down what it is told.
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { version } from '../../src/version.ts'
import { type Ended, root, run } from '../package/packed.ts'
import { pythonTools } from './project.ts'

const actionlint = () => {
  const path = process.env.POST_INVOKE_TEST_ACTIONLINT
  if (path && existsSync(path)) return path
  throw new Error('No actionlint. Run: bash scripts/install-test-runtimes.sh && source .cache/test-runtimes.env')
}
const zizmor = () => join(pythonTools(), 'bin', 'zizmor')
const PEDANTIC = ['--offline', '--no-progress', '--persona=pedantic', '--quiet']

const folder = mkdtempSync(join(tmpdir(), 'post-invoke-workflows-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('the workflows', () => {
  it('satisfy actionlint', async () => {
    expect(await run(actionlint(), [], { cwd: root })).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it('satisfy zizmor', async () => {
    const { code, stdout, stderr } = await run(zizmor(), [...PEDANTIC, '.github'], { cwd: root })
    expect({ code, output: stdout + stderr }).toMatchObject({ code: 0 })
  })

  it('would not satisfy them with a version for a commit, or a title for a shell', async () => {
    const broken = join(folder, 'broken.yml')
    const text = readFileSync(join(root, '.github/workflows/ci.yml'), 'utf8')
    writeFileSync(broken, text.replace(/checkout@\w+ # .*/, 'checkout@v4'))
    expect((await run(zizmor(), [...PEDANTIC, broken])).code).not.toBe(0)
    writeFileSync(broken, text.replace('bash .ci/run', `echo $${'{{'} github.event.pull_request.title }}`))
    expect((await run(actionlint(), [broken])).code).toBe(1)
  })
})

/** It writes down its arguments, and answers as AWS would; the file `fails` names calls that do not succeed. */
const AWS = `#!/bin/bash
printf '%s\\n' "$*" >>"$CALLS"
[[ "\${FAILS:-}" && "$1 $2" == "$FAILS" ]] && { echo "An error occurred (AccessDenied)" >&2; exit 254; }
case "$1 $2" in
  'ssm get-parameter')
    [[ " $PUBLISHED " == *" $4 "* ]] && { echo "arn:old:$4"; exit; }
    echo 'An error occurred (ParameterNotFound) when calling the GetParameter operation' >&2; exit 254 ;;
  's3api put-object') echo "$OBJECT_VERSION" ;;
  'signer start-signing-job') echo job-1 ;;
  'signer describe-signing-job') echo signed/job-1.zip ;;
  'lambda publish-layer-version') echo "arn:aws:lambda:$4:123456789012:layer:mine:7" ;;
esac
`

describe('scripts/publish-layer.sh', () => {
  const calls = join(folder, 'calls')
  beforeAll(() => {
    writeFileSync(join(folder, 'aws'), AWS)
    chmodSync(join(folder, 'aws'), 0o755)
  })
  beforeEach(() => writeFileSync(calls, ''))

  const publish = async (
    regions: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<Ended & { calls: string[] }> => {
    const ended = await run('bash', [join(root, 'scripts/publish-layer.sh'), ...regions], {
      env: {
        PATH: [folder, process.env.PATH].join(delimiter),
        CALLS: calls,
        PUBLISHED: '',
        OBJECT_VERSION: 'v1',
        ...env,
      },
    })
    return { ...ended, calls: readFileSync(calls, 'utf8').split('\n').filter(Boolean) }
  }
  const names = (all: readonly string[]) => all.map(call => call.split(' ').slice(0, 2).join(' '))
  const signing = { SIGNING_PROFILE: 'mine', SIGNING_BUCKET: 'bucket' }

  it('signs the layer, publishes it and writes down its ARN, region by region', async () => {
    const { code, stdout, stderr, calls } = await publish(['eu-central-1', 'us-gov-east-1'], signing)
    expect([code, stderr]).toEqual([0, ''])
    const once = [
      'ssm get-parameter',
      's3api put-object',
      'signer start-signing-job',
      'signer wait',
      'signer describe-signing-job',
      'lambda publish-layer-version',
      'ssm put-parameter',
      'ssm put-parameter',
    ]
    expect(names(calls)).toEqual([...once, ...once])
    expect(calls[1]).toContain('--bucket bucket-eu-central-1 ')
    expect(calls[2]).toContain(
      `--source s3={bucketName=bucket-eu-central-1,key=unsigned/middy-post-invoke-${version}.zip,version=v1}`,
    )
    expect(calls[5]).toContain('--content S3Bucket=bucket-eu-central-1,S3Key=signed/job-1.zip')
    expect(calls[5]).toContain(
      '--compatible-runtimes nodejs22.x nodejs24.x nodejs26.x --compatible-architectures x86_64 arm64',
    )
    expect(calls[6]).toContain('--name /middy-post-invoke/latest ')
    expect(calls[6]).toContain('--overwrite')
    expect(calls[7]).toContain(
      `--name /middy-post-invoke/${version} --type String --value arn:aws:lambda:eu-central-1:`,
    )
    expect(calls.slice(8).every(call => call.includes('--region us-gov-east-1'))).toBe(true)
    expect(stdout.trim().split('\n')).toEqual([
      'eu-central-1 arn:aws:lambda:eu-central-1:123456789012:layer:mine:7 (published)',
      'us-gov-east-1 arn:aws:lambda:us-gov-east-1:123456789012:layer:mine:7 (published)',
    ])
  })

  it('does without a signature where there is no profile', async () => {
    const { code, calls } = await publish(['eu-central-1'])
    expect(code).toBe(0)
    expect(names(calls)).toEqual([
      'ssm get-parameter',
      'lambda publish-layer-version',
      'ssm put-parameter',
      'ssm put-parameter',
    ])
    expect(calls[1]).toContain('--zip-file fileb://dist/layer.zip')
  })

  it('leaves a region alone that has this version', async () => {
    const { code, stdout, calls } = await publish(['eu-central-1', 'us-east-1'], { PUBLISHED: 'eu-central-1' })
    expect(code).toBe(0)
    expect(stdout).toContain('eu-central-1 arn:old:eu-central-1 (there already)')
    expect(names(calls).filter(name => name === 'lambda publish-layer-version')).toHaveLength(1)
  })

  it.each([
    ['nobody may read the parameters', ['eu-central-1'], { FAILS: 'ssm get-parameter' }, 'AccessDenied', 1],
    ['the signing fails', ['eu-central-1'], { ...signing, FAILS: 'signer wait' }, 'AccessDenied', 4],
    ['the bucket has no versions', ['eu-central-1'], { ...signing, OBJECT_VERSION: 'None' }, 'to have versioning', 2],
    ['a profile has no bucket', ['eu-central-1'], { SIGNING_PROFILE: 'mine' }, 'SIGNING_BUCKET', 0],
    ['there is no region', [], {}, 'at least one region', 0],
    ['a region is none', ['eu-central-1', '--help'], {}, 'got --help', 0],
  ])('publishes nothing where %s', async (_, regions, env, message, count) => {
    const { code, stderr, calls } = await publish(regions, env)
    expect(code).not.toBe(0)
    expect(stderr).toContain(message)
    expect(calls).toHaveLength(count)
    expect(names(calls)).not.toContain('lambda publish-layer-version')
  })
})

describe('scripts/try-middy.sh', () => {
  /** It writes down what it is told, and knows these versions. */
  const tryMiddy = async (versions: readonly string[], ...args: string[]) => {
    const calls = join(folder, 'npm-calls')
    writeFileSync(calls, '')
    const npm = `#!/bin/bash\nprintf '%s\\n' "$*" >>${calls}\n[[ $1 != view ]] || echo '${JSON.stringify(versions)}'\n`
    writeFileSync(join(folder, 'npm'), npm, { mode: 0o755 })
    const path = [folder, dirname(process.execPath), process.env.PATH].join(delimiter)
    const { code, stdout } = await run('bash', [join(root, 'scripts/try-middy.sh'), ...args], { env: { PATH: path } })
    return { code, stdout, calls: readFileSync(calls, 'utf8').split('\n').filter(Boolean) }
  }

  it('does nothing where there is none above those that the package takes', async () => {
    const { code, stdout, calls } = await tryMiddy(['6.4.5', '7.3.0', '7.9.2'])
    expect({ code, stdout, calls }).toEqual({
      code: 0,
      stdout: 'There is no newer Middy.\n',
      calls: ['view @middy/core versions --json'],
    })
  })

  it.each([
    ['the newest, a prerelease', ['7.9.2', '8.0.0-alpha.1', '8.0.0-alpha.2'], [], '8.0.0-alpha.2'],
    ['the one that is named', [], ['8.0.0-alpha.1'], '8.0.0-alpha.1'],
  ])('runs the suites with %s', async (_, versions, args, expected) => {
    const { code, stdout, calls } = await tryMiddy(versions, ...args)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `Middy ${expected}\n` })
    expect(calls.slice(-3)).toEqual([
      `install --no-save --legacy-peer-deps --ignore-scripts @middy/core@${expected} @middy/util@${expected}`,
      'run build',
      'run jest -- --selectProjects unit sandbox companions',
    ])
  })
})
