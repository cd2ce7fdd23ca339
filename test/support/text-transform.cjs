// Shell scripts are bundled as text; this makes Jest import them so too.
module.exports = { process: text => ({ code: `module.exports = ${JSON.stringify(text)}` }) }
