module.exports = { mode: 'development' };
