document.getElementById('berth').textContent = 'moored in webpack';
