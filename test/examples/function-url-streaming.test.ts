import { expect, it } from '@jest/globals'
import { expectReports, httpEvent } from './deployment.ts'
import { only } from './project.ts'
import { describeSam } from './sam.ts'

/** What stands between the status and headers of a streamed answer, and its body. */
const PRELUDE_END = '\0'.repeat(8)

describeSam(
  'function-url-streaming',
  async started => {
    for (const rows of [3, 20]) {
      const event = { ...httpEvent({}), queryStringParameters: { rows: String(rows) } }
      await expectReports(started, event, ({ streamed, payload }) => {
        const [prelude = '', body = ''] = payload.split(PRELUDE_END)
        expect(streamed).toBe(true)
        expect(JSON.parse(prelude)).toMatchObject({ statusCode: 200, headers: { 'content-type': 'text/csv' } })
        const table = Array.from({ length: rows }, (_, index) => `${index + 1},${(index + 1) ** 2}\n`)
        expect(body).toBe(`row,square\n${table.join('')}`)
        return [{ rows }]
      })
    }
  },
  template =>
    it('streams through a function URL', () => {
      const { FunctionUrlConfig } = only(template(), 'AWS::Serverless::Function').Properties
      expect(FunctionUrlConfig.InvokeMode).toBe('RESPONSE_STREAM')
    }),
)
