import { expect, it } from '@jest/globals'
import { expectReports } from './deployment.ts'
import { only } from './project.ts'
import { describeSam } from './sam.ts'

const record = (messageId: string, product: string) => ({
  messageId,
  body: JSON.stringify({ product }),
  receiptHandle: messageId,
  attributes: {},
  messageAttributes: {},
  eventSource: 'aws:sqs',
})

const products = ['tea', 'unavailable', 'coffee', 'milk', 'sugar', 'lemon', 'unavailable', 'cream', 'cake']

describeSam(
  'sqs',
  async started => {
    const Records = products.map((product, index) => record(`message-${index}`, product))
    await expectReports(started, { Records }, answer => {
      const { batchItemFailures } = answer.body()
      expect(batchItemFailures).toHaveLength(2)
      expect(batchItemFailures).toEqual(
        expect.arrayContaining(['message-1', 'message-6'].map(itemIdentifier => ({ itemIdentifier }))),
      )
      return products.filter(product => product !== 'unavailable').map(product => ({ product }))
    })
    await expectReports(started, { Records: [record('message-10', 'unavailable')] }, answer => {
      expect(answer.body()).toEqual({ batchItemFailures: [{ itemIdentifier: 'message-10' }] })
      return []
    })
  },
  template =>
    it('lets single messages fail, and gives the function time before they are visible again', () => {
      const { Events, Timeout } = only(template(), 'AWS::Serverless::Function').Properties
      expect(Events.Batch.Properties.FunctionResponseTypes).toEqual(['ReportBatchItemFailures'])
      const queue = template().Resources[Events.Batch.Properties.Queue['Fn::GetAtt'][0]]
      expect(queue?.Properties.VisibilityTimeout).toBeGreaterThanOrEqual(6 * Timeout)
    }),
)
