// The page of the tables as a whole.
import { describe, expect, it } from '@jest/globals'
import { readRows, readSummary, summarize, writesDocs } from '../support/fault-table.ts'

// Other files may be writing it at this moment.
const whenRead = writesDocs ? describe.skip : describe

whenRead('docs/evidence/reliability.md', () => {
  it('counts its rows', () => {
    expect(readSummary()).toBe(summarize(readRows()))
  })

  it('has enough of them', () => {
    expect(readRows().length).toBeGreaterThan(60)
  })
})
