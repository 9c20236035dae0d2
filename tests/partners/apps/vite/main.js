// The page: shows what `chart.js` says, now and after each edit of it, and what the API on the same origin answers.
import { title } from './chart.js';

const show = (id, text) => {
  document.getElementById(id).textContent = text;
};

show('chart', title);
import.meta.hot.accept('./chart.js', (chart) => show('chart', chart.title));

const answer = await fetch('/api/hello');
show('api', (await answer.json()).greeting);
